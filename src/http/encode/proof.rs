//! The body of a proof. Whoever checks it computes everything anew from what is named here: the recipe is in
//! `docs/AUDIT.md`, and `snapfold proof --check` is that recipe.

use super::position;
use crate::codec::pack::{kind_code, pack_name};
use crate::domain::moment;
use crate::http::json::{self, Object};
use crate::lookup::{Link, Proof, ProvenRecord};
use data_encoding::BASE64;

/// Names what is proven and how, so that a later recipe is not taken for this one.
const FORMAT: &str = "snapfold.proof.v1";

/// A proof.
pub(in crate::http) fn proof(kind: &str, topic: &str, id: &str, proof: &Proof) -> Vec<u8> {
    let aggregate = &proof.answer.aggregate;
    let text = aggregate.state.to_json();
    json::object(|body| {
        body.text("format", FORMAT).text("aggregateType", kind).text("aggregateId", id);
        body.number("version", aggregate.version).number("lineage", proof.answer.lineage);
        body.text("timestamp", &moment::format(aggregate.effective_time));
        position(body, topic, proof.answer.partition, aggregate.offset);
        body.digest("fingerprint", proof.fingerprint);
        let headers: Vec<Vec<u8>> = proof.digest_headers.iter().map(|name| json::string(name)).collect();
        body.raws("digestHeaders", &headers).digest("genesis", Some(proof.genesis));
        body.object("base", |base| {
            base.number("version", proof.base.0).digest("chain", Some(proof.base.1));
        });
        body.objects("events", &proof.links, link);
        body.digest("chain", Some(aggregate.chain)).digest("stateDigest", proof.state_digest);
        body.digest("statement", Some(proof.statement));
        body.objects("records", &proof.records, record);
        body.raw("state", text.as_deref().unwrap_or(b"null"));
    })
}

fn link(body: &mut Object<'_>, link: &Link) {
    body.number("version", link.version).number("offset", link.offset);
    body.digest("digest", Some(link.digest));
    if link.skipped {
        body.flag("skipped", true);
    }
}

fn record(body: &mut Object<'_>, record: &ProvenRecord) {
    let (id, inclusion) = (&record.inclusion.id, &record.inclusion);
    body.text("kind", &char::from(kind_code(id.kind)).to_string());
    body.number("fromVersion", id.from_version).number("version", id.upto_version);
    body.text("pack", &record.pack.to_string()).text("object", &pack_name(record.class, record.pack));
    body.number("index", inclusion.index).number("entries", inclusion.entries);
    let path: Vec<Vec<u8>> =
        inclusion.path.iter().map(|digest| json::string(&format!("sha256:{digest}"))).collect();
    body.raws("path", &path).digest("root", Some(inclusion.root));
    body.text("body", &BASE64.encode(&inclusion.body));
}
