//! `stats`: what is stored, of one aggregate day by day, or of all streams.

use super::address::Address;
use super::args::StatsArgs;
use super::client::{Client, Query};
use super::failure::Done;
use super::print::{self, cell};
use super::screen::{Align, Screen, columns, printable};
use crate::domain::value::Value;

pub(super) fn run(args: &StatsArgs, screen: &mut Screen<'_>) -> Done {
    let client = Client::new(&args.asking.server)?;
    match &args.address {
        Some(address) => of_aggregate(&client, &Address::whole(address)?, args, screen),
        None if args.storage => of_storage(&client, args, screen),
        None => of_streams(&client, args, screen),
    }
}

fn table(head: &[&str], align: &[Align], rows: Vec<Vec<String>>, screen: &mut Screen<'_>) -> Done {
    let mut all = vec![head.iter().map(|name| (*name).to_owned()).collect()];
    all.extend(rows);
    for line in columns(align, &all) {
        screen.line(&line)?;
    }
    Ok(())
}

fn cells(item: &Value, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| printable(&cell(item, &[name]))).collect()
}

fn of_aggregate(client: &Client, address: &Address, args: &StatsArgs, screen: &mut Screen<'_>) -> Done {
    let query: Query = [("from", &args.from), ("to", &args.to)]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.clone()?)))
        .collect();
    let body = client.get(address, "/stats", &query)?;
    if print::body(screen, args.asking.output, &body)? {
        return Ok(());
    }
    let text = |name: &str| cell(&body.value, &[name]);
    screen.say(&format!("{} snapshots, {} bytes of {}", text("snapshots"), text("bytes"), text("rawBytes")));
    let days = body.value.get("days").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let names = ["date", "snapshotsCreated", "snapshotsDeleted", "totalSizeBytes", "avgCreationTimeMs"];
    use Align::{Left, Right};
    let rows = days.iter().map(|day| cells(day, &names)).collect();
    table(
        &["DATE", "CREATED", "DELETED", "BYTES", "MEAN MS"],
        &[Left, Right, Right, Right, Right],
        rows,
        screen,
    )
}

fn of_streams(client: &Client, args: &StatsArgs, screen: &mut Screen<'_>) -> Done {
    let body = client.get_at("/v1/stats")?;
    if print::body(screen, args.asking.output, &body)? {
        return Ok(());
    }
    let streams = body.value.get("streams").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let names = ["type", "topic", "aggregates", "events", "snapshots", "quarantined", "deadLetters"];
    use Align::{Left, Right};
    let rows = streams.iter().map(|stream| cells(stream, &names)).collect();
    let head = ["TYPE", "TOPIC", "AGGREGATES", "EVENTS", "SNAPSHOTS", "QUARANTINED", "DEAD LETTERS"];
    table(&head, &[Left, Left, Right, Right, Right, Right, Right], rows, screen)
}

fn of_storage(client: &Client, args: &StatsArgs, screen: &mut Screen<'_>) -> Done {
    let body = client.get_at("/v1/stats/storage")?;
    if print::body(screen, args.asking.output, &body)? {
        return Ok(());
    }
    let classes = body.value.get("byClass").and_then(Value::as_object);
    let rows = classes.into_iter().flat_map(|classes| classes.iter()).map(|(name, class)| {
        let mut row = vec![printable(name)];
        row.extend(cells(class, &["packs", "bytes", "liveBytes", "rawBytes"]));
        row
    });
    use Align::{Left, Right};
    let align = [Left, Right, Right, Right, Right];
    table(&["CLASS", "PACKS", "BYTES", "LIVE", "RAW"], &align, rows.collect(), screen)?;
    screen.say(&format!("saved {}", cell(&body.value, &["savedRatio"])));
    Ok(())
}
