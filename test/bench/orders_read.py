#!/usr/bin/env python3
"""Reads all pages of orders from the simulator as the import asks for them, and does nothing with them.

usage: orders_read.py URL     prints orders a second

It says what Amazon's side of the import costs, and lets the simulator print each order once, as the import asks for it, which
Amazon would have done long before.
"""
import json
import sys
import time
import urllib.parse
import urllib.request

CREDENTIALS = {"grant_type": "refresh_token", "client_id": "amzn1.application-oa2-client.demo",
               "client_secret": "amzn1.oa2-cs.v1.demo", "refresh_token": "Atzr|demo"}
SEARCH = {"lastUpdatedAfter": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 86400)),
          "marketplaceIds": "A1PA6795UKMFR9", "maxResultsPerPage": 100,
          "includedData": "FULFILLMENT,PROCEEDS,CANCELLATION,PACKAGES,BUYER,RECIPIENT,TAX,PAYMENT,PROMOTION,EXPENSE,FULFILLMENT_ORDERS"}


def answer(request):
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


def main():
    url = sys.argv[1]
    token = answer(urllib.request.Request(url + "/auth/o2/token", urllib.parse.urlencode(CREDENTIALS).encode()))["access_token"]
    count, search = 0, dict(SEARCH)
    began = time.monotonic()
    while True:
        page = answer(urllib.request.Request(url + "/orders/2026-01-01/orders?" + urllib.parse.urlencode(search),
                                             headers={"x-amz-access-token": token, "user-agent": "bench/1 (Language=Python)"}))
        count += len(page["orders"])
        if "nextToken" not in page.get("pagination", {}):
            break
        search["paginationToken"] = page["pagination"]["nextToken"]
    print(round(count / (time.monotonic() - began)))


main()
