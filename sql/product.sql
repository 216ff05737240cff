-- product.sql
-- What the shop's rows said when they were last read. Written by the user runner that reads them; nothing else is
-- ever taken from the shop, so whoever wants to know why a price is what it is starts here.

-- What the dashboard's figures follow from in a product, as one text: '' where it is not in the catalogue, else its
-- quantity, and letters for price, category and image. (Without a search_path of its own, so that it is not called for each row
-- but becomes a part of the statement.)
create function amzmp._product_mark(gone boolean, active boolean, price numeric, quantity bigint, category text, image text)
    returns text
    language sql immutable parallel safe
    begin atomic
    select case when gone or active is false then ''
                else coalesce(quantity::text, '') || case when price > 0 then 'p' else '-' end
                     || case when category <> '' then 'c' else '-' end || case when image <> '' then 'i' else '-' end end;
    end;

create table amzmp.product (
    account_id bigint not null,
    source_id bigint not null,
    sku text not null,
    price numeric,
    quantity bigint,
    title text,
    ean text,
    asin text,
    condition text,
    condition_note text,
    lead_time integer,
    image text,
    category text,
    active boolean,
    extra jsonb,
    read_at timestamptz not null default now(),
    changed text not null default 'all' check (changed in ('price', 'quantity', 'all')),
    cause jsonb,
    gone boolean not null default false,
    missing boolean not null default false,
    counted text,
    uncounted boolean not null
        generated always as (counted is distinct from amzmp._product_mark(gone, active, price, quantity, category, image)) stored,
    primary key (account_id, source_id, sku)
) with (fillfactor = 80);

create index product_uncounted on amzmp.product (account_id, sku) where uncounted;

create index product_asin on amzmp.product (asin, account_id) where asin is not null;
create index product_missing on amzmp.product (account_id, source_id) where missing;

comment on table amzmp.product is 'A row of an attached source as it was last read. amzmp.source says which relation that is.';
comment on column amzmp.product.account_id is 'The account that the source belongs to.';
comment on column amzmp.product.source_id is 'The source, see amzmp.source.';
comment on column amzmp.product.sku is 'The shop''s key of the product, which is the seller SKU at Amazon.';
comment on column amzmp.product.price is 'Price in the shop, before any rule.';
comment on column amzmp.product.quantity is 'Stock in the shop, before any rule; fractions are rounded down.';
comment on column amzmp.product.title is 'Title.';
comment on column amzmp.product.ean is 'EAN, UPC or other GTIN, as the shop has it.';
comment on column amzmp.product.asin is 'Amazon''s number, where the shop knows it.';
comment on column amzmp.product.condition is 'Condition, as the shop has it; null means new.';
comment on column amzmp.product.condition_note is 'Note on the condition.';
comment on column amzmp.product.lead_time is 'Days until it is shipped.';
comment on column amzmp.product.image is 'Address of the main image.';
comment on column amzmp.product.category is 'Category, as the shop has it.';
comment on column amzmp.product.active is 'False when the shop does not sell it at present; null means true.';
comment on column amzmp.product.extra is 'Values of the source that rules use by their names, and keys by which watched relations reach this row: {"watched_id": "key"}.';
comment on column amzmp.product.read_at is 'When the row was last found changed.';
comment on column amzmp.product.changed is 'What was found changed then: the price alone, the quantity alone, or all: other values, or the whole row.';
comment on column amzmp.product.cause is 'The shop''s transaction that led to the reading: role, application, xid, at; or why the source was compared.';
comment on column amzmp.product.gone is 'True when the source has no such row any more.';
comment on column amzmp.product.counted is 'What of it is in the dashboard''s figures (figure.sql).';
comment on column amzmp.product.uncounted is 'Has it changed since it was counted?';
comment on column amzmp.product.missing is 'True while a running comparison of the source has not found the row; it becomes gone when the comparison ends.';

-- By which key of a watched relation a product is reached, where that is not the SKU itself.
create table amzmp.product_key (
    account_id bigint not null,
    source_id bigint not null,
    watched_id bigint not null,
    key text not null,
    sku text not null,
    primary key (account_id, source_id, watched_id, key, sku)
);

create index product_key_sku on amzmp.product_key (account_id, source_id, sku);

comment on table amzmp.product_key is 'Which products depended on a row of a watched relation when they were last read.';
comment on column amzmp.product_key.account_id is 'The account that the source belongs to.';
comment on column amzmp.product_key.source_id is 'The source.';
comment on column amzmp.product_key.watched_id is 'The watched relation, see amzmp.watched.';
comment on column amzmp.product_key.key is 'Key of a row in the watched relation.';
comment on column amzmp.product_key.sku is 'The product that depends on it.';

-- Rows of one SKU contradict each other: say so and use none.
create function amzmp._log_duplicates(source amzmp.source, rows amzmp.shop_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    perform amzmp._log(source.account_id, source.channel_id, 'warning', 'product', d.sku,
                       format('%s has %s rows for this SKU; none of them is used', source.relation, d.times),
                       jsonb_build_object('source_id', source.source_id))
       from (select r.sku, count(*) as times from unnest(rows) r group by r.sku having count(*) > 1
              order by r.sku limit 20) d;
end
$$;

create function amzmp._log_nameless(source amzmp.source, rows amzmp.shop_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    perform amzmp._log(source.account_id, source.channel_id, 'warning', 'source', source.relation,
                       format('%s has rows without a SKU; none of them is used', source.relation),
                       jsonb_build_object('source_id', source.source_id, 'rows_seen', n.rows_seen))
       from (select count(*) as rows_seen from unnest(rows) r where coalesce(r.sku, '') = '') n
      where n.rows_seen > 0;
end
$$;

-- What changed of a source's rows, and which desired values can follow from it where there are no rules: price, stock.
create type amzmp.source_news as (skus text[], facets text[]);

comment on type amzmp.source_news is 'Inner: products that were found changed, and what can follow from it.';

/*
 * Remember the rows; returns which of them are not as they were. Rows without a SKU are nothing to us. Nobody else
 * writes the source's products meanwhile (_own_source), so those that are there are updated and only the others inserted: a
 * row that is as it was costs a look, and no lock.
 */
create function amzmp._store_rows(source amzmp.source, rows amzmp.shop_row[], cause jsonb) returns amzmp.source_news
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    set plan_cache_mode = force_generic_plan set enable_seqscan = off
    as $$
declare
    news amzmp.source_news;
    added text[] := '{}';
    repeated text[];
begin
    -- with none that is repeated, "<> all" has nothing to compare
    repeated := array(select r.sku from unnest(_store_rows.rows) r where r.sku <> '' group by r.sku having count(*) > 1);
    with updated as (
        update amzmp.product p
           set price = g.price, quantity = g.quantity, title = g.title, ean = g.ean, asin = g.asin, condition = g.condition,
               condition_note = g.condition_note, lead_time = g.lead_time, image = g.image, category = g.category,
               active = g.active, extra = g.extra, read_at = now(), cause = _store_rows.cause, gone = false, missing = false,
               changed = case
                   when p.gone or p.missing
                        or (p.title, p.ean, p.asin, p.condition, p.condition_note, p.lead_time, p.image, p.category, p.active, p.extra)
                           is distinct from
                           (g.title, g.ean, g.asin, g.condition, g.condition_note, g.lead_time, g.image, g.category, g.active, g.extra)
                   then 'all'
                   when p.quantity is not distinct from g.quantity then 'price'
                   when p.price is not distinct from g.price then 'quantity'
                   else 'all'
               end
          from unnest(_store_rows.rows) g
         where p.account_id = source.account_id and p.source_id = source.source_id and p.sku = g.sku
           and g.sku <> all (repeated)
           and (p.gone or p.missing
                or (p.price, p.quantity, p.title, p.ean, p.asin, p.condition, p.condition_note, p.lead_time, p.image,
                    p.category, p.active, p.extra)
                   is distinct from
                   (g.price, g.quantity, g.title, g.ean, g.asin, g.condition, g.condition_note, g.lead_time, g.image,
                    g.category, g.active, g.extra))
        returning p.sku, p.changed
    )
    select coalesce(array_agg(u.sku), '{}'),
           case when bool_and(u.changed = 'price') then '{price}' when bool_and(u.changed = 'quantity') then '{stock}'
                else '{price,stock}' end
      into news.skus, news.facets
      from updated u;
    if cardinality(news.skus) < cardinality(_store_rows.rows) then
        with inserted as (
            insert into amzmp.product (account_id, source_id, sku, price, quantity, title, ean, asin, condition,
                   condition_note, lead_time, image, category, active, extra, read_at, cause)
            select source.account_id, source.source_id, g.sku, g.price, g.quantity, g.title, g.ean, g.asin, g.condition,
                   g.condition_note, g.lead_time, g.image, g.category, g.active, g.extra, now(), _store_rows.cause
              from unnest(_store_rows.rows) g
             where g.sku <> '' and g.sku <> all (repeated)
               and not exists (select from amzmp.product p
                                where p.account_id = source.account_id and p.source_id = source.source_id and p.sku = g.sku)
            returning sku
        )
        select array_agg(i.sku) into added from inserted i;
        if added is not null then
            news := row(news.skus || added, '{price,stock}');
        end if;
    end if;
    if repeated <> '{}' then
        perform amzmp._log_duplicates(source, rows);
    end if;
    perform amzmp._log_nameless(source, rows);
    if news.skus <> '{}' then
        perform amzmp._store_keys(source, news.skus);
    end if;
    return news;
end
$$;

-- Bring product_key into line with what the products say in extra.
create function amzmp._store_keys(source amzmp.source, skus text[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    if not exists (select from amzmp.source_watch w
                    where w.account_id = source.account_id and w.source_id = source.source_id and w.via is not null) then
        return;
    end if;
    with wanted as (
        select p.sku, e.key::bigint as watched_id, e.value as key
          from amzmp.product p, jsonb_each_text(p.extra) e
         where p.account_id = source.account_id and p.source_id = source.source_id and p.sku = any (_store_keys.skus)
           and e.key ~ '^[0-9]+$' and e.value is not null
    ), removed as (
        delete from amzmp.product_key k
         where k.account_id = source.account_id and k.source_id = source.source_id and k.sku = any (_store_keys.skus)
           and not exists (select from wanted w where w.sku = k.sku and w.watched_id = k.watched_id and w.key = k.key)
    )
    insert into amzmp.product_key (account_id, source_id, watched_id, key, sku)
    select source.account_id, source.source_id, w.watched_id, w.key, w.sku
      from wanted w
    on conflict do nothing;
end
$$;
