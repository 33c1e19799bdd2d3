"""Events of orders with their keys, a line each, for Kafka's console producer: COUNT of them over AGGREGATES orders."""

import json
import random
import sys

count, aggregates = map(int, sys.argv[1:])
random.seed(7)
versions: dict[str, int] = {}
for number in range(count):
    order = f"o-{random.randrange(aggregates):06d}"
    versions[order] = versions.get(order, 0) + 1
    data = {"sku": f"s{random.randrange(50)}", "qty": random.randrange(9), "price": random.randrange(10000) / 100}
    event = {
        "id": f"e-{number}",
        "type": "ItemAdded",
        "version": versions[order],
        "timestamp": "2026-11-01T00:00:00Z",
        "data": data,
    }
    sys.stdout.write(f"{order}\t{json.dumps(event)}\n")
