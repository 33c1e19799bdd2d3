"""What schemathesis cannot know: which aggregates there are, and which 5xx is no fault of the server."""

import json

import schemathesis

# Of the bundled sample.
IDS = ["api/Element", "css/grid", "css/display", "api/Window", "nobody", "ü/@~%"]


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Questions mostly go to aggregates that exist: the deepest answers are theirs."""
    if path_parameters and "id" in path_parameters:
        chosen = sum(str(path_parameters["id"]).encode()) % (len(IDS) + 1)
        if chosen < len(IDS):
            path_parameters["id"] = IDS[chosen]
    if path_parameters and "type" in path_parameters and len(str(path_parameters["type"])) % 5:
        path_parameters["type"] = "compat"
    return path_parameters


@schemathesis.hook
def map_query(context, query):
    """Most questions name one moment, of those that exclude each other: else nearly all of them are 422."""
    if not query or len(str(query)) % 4 == 0:
        return query
    moments = [name for name in ("version", "at", "offset", "basis", "minVersion", "minOffset") if name in query]
    for name in moments[1:]:
        query.pop(name)
    for name, value in (("at", "2023-05-01"), ("from", "1"), ("to", "-1"), ("path", "/__compat/status"), ("type", "compat")):
        if name in query:
            query[name] = value
    for name in ("wait", "basis", "cursor", "offset", "minOffset"):
        query.pop(name, None)
    return query


@schemathesis.check
def no_fault(context, response, case):
    """A 5xx must be a problem that says it may be asked again: what is demanded has not been folded yet."""
    if response.status_code < 500:
        return
    try:
        problem = json.loads(response.content)
    except ValueError:
        raise AssertionError(f"{response.status_code} without a problem") from None
    health = case.path in ("/readyz", "/livez", "/startupz")
    if not health and not (response.status_code == 503 and problem.get("code") == "not-caught-up"):
        raise AssertionError(f"{response.status_code} {problem}")
