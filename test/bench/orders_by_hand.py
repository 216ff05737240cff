#!/usr/bin/env python3
"""The import of orders as one writes it by hand: psycopg, INSERT … ON CONFLICT row by row, a commit an order.

usage: orders_by_hand.py FILE [ORDERS_A_COMMIT]     FILE has one order as JSON a line; prints orders a second

It is what the bench compares the import with: the same JSON, the same columns, but no sealing, no movements, no stock.
"""
import json
import sys
import time

import psycopg

ORDER = """insert into by_hand.orders values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
on conflict (amazon_order_id) do update set status = excluded.status, last_updated_at = excluded.last_updated_at,
    grand_total = excluded.grand_total, item_total = excluded.item_total, shipping_total = excluded.shipping_total,
    tax_total = excluded.tax_total
where orders.last_updated_at <= excluded.last_updated_at"""

ITEM = """insert into by_hand.order_item values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
on conflict (amazon_order_id, order_item_id) do update set quantity_ordered = excluded.quantity_ordered,
    quantity_fulfilled = excluded.quantity_fulfilled, quantity_unfulfilled = excluded.quantity_unfulfilled,
    item_price = excluded.item_price, tax_total = excluded.tax_total, total = excluded.total"""


def money(value):
    return value["amount"] if value else None


def parts(proceeds):
    """The sum of each kind of breakdown."""
    sums = {}
    for part in proceeds.get("breakdowns", ()):
        sums[part["type"]] = sums.get(part["type"], 0) + float(part["subtotal"]["amount"])
    return sums


def order_row(order):
    fulfillment, proceeds = order.get("fulfillment", {}), order.get("proceeds", {})
    sums = parts(proceeds)
    return (order["orderId"], fulfillment.get("fulfillmentStatus"), fulfillment.get("fulfilledBy"), order["createdTime"],
            order["lastUpdatedTime"], proceeds.get("grandTotal", {}).get("currencyCode"), money(proceeds.get("grandTotal")),
            sums.get("ITEM"), sums.get("SHIPPING"), sums.get("TAX"), fulfillment.get("fulfillmentServiceLevel"),
            order["salesChannel"].get("marketplaceId"))


def item_row(order, position, item):
    product, fulfillment, proceeds = item["product"], item.get("fulfillment", {}), item.get("proceeds", {})
    sums = parts(proceeds)
    return (order["orderId"], item["orderItemId"], position, product.get("sellerSku"), product.get("asin"), product.get("title"),
            item["quantityOrdered"], fulfillment.get("quantityFulfilled"), fulfillment.get("quantityUnfulfilled"),
            sums.get("ITEM"), sums.get("TAX"), money(proceeds.get("proceedsTotal")))


def main():
    orders_a_commit = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    began = time.monotonic()
    count = 0
    with psycopg.connect() as connection, open(sys.argv[1], encoding="utf-8") as lines:
        cursor = connection.cursor()
        for count, line in enumerate(lines, 1):
            order = json.loads(line)
            cursor.execute(ORDER, order_row(order))
            for position, item in enumerate(order["orderItems"], 1):
                cursor.execute(ITEM, item_row(order, position, item))
            if count % orders_a_commit == 0:
                connection.commit()
        connection.commit()
    print(round(count / (time.monotonic() - began)))


main()
