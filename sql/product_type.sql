/*
 * product_type.sql
 *	  Amazon's definitions of product types: which are held here, how they are fetched and kept up to date.
 *
 *		asked ──link──▶ loading ──document──▶ known ──older than definition_max_age──▶ asked …
 *		  │                │ wrong checksum, not readable
 *		  │ 404            ▼
 *		  ├────▶ absent  failed ──the flow's next run, fetch_product_type──▶ asked
 *		  └─refused─▶ failed
 *
 * A definition is asked for when content names its product type, by the flow get_product_types, or by a person. Amazon
 * answers with a link to a JSON schema and its checksum; a schema whose checksum is here already is not loaded again.
 * What the schema says is kept as rows (product_type_attribute, made by product_type_schema.sql), so that checking is a
 * join. The state is that of the fetching: known_at says whether there are rules, and they stay while a newer version is
 * fetched or cannot be.
 */
insert into amzmp.flow (flow, scope, every, on_by_default, capability, title, description)
values ('get_product_types', 'account', '13 * * * *', true, 'offers', 'Read definitions of product types',
        'Asks Amazon for the definitions that the shop''s content needs where they are missing, have failed, or are older than definition_max_age.');

insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
values
    (true, 'definition_max_age', 'account', 'interval', 'Definitions are checked after', '"168:00:00"', 3600, 7776000,
        'How old a definition of a product type may be before Amazon is asked whether there is a newer one. Amazon changes them about once a month.');

create sequence amzmp.definition_id_seq as bigint;

create table amzmp.product_type (
    account_id bigint not null,
    channel_id bigint not null,
    product_type text not null,
    requirements text not null default 'LISTING_PRODUCT_ONLY',
    definition_id bigint not null default nextval('amzmp.definition_id_seq'),
    state text not null default 'asked',
    reason text,
    asked_at timestamptz not null default now(),
    checked_at timestamptz,
    known_at timestamptz,
    display_name text,
    version text,
    locale text,
    checksum text,
    closed boolean not null default false,
    tags jsonb,
    document_id bigint,
    primary key (account_id, channel_id, product_type, requirements),
    constraint product_type_definition_key unique (account_id, definition_id),
    constraint product_type_state_check check (state in ('asked', 'loading', 'known', 'absent', 'failed')),
    constraint product_type_requirements_check check (requirements in ('LISTING', 'LISTING_PRODUCT_ONLY', 'LISTING_OFFER_ONLY'))
);

comment on table amzmp.product_type is 'Definitions of Amazon''s product types, as fetched for a channel.';
comment on column amzmp.product_type.account_id is 'The account.';
comment on column amzmp.product_type.channel_id is 'The channel: definitions differ by marketplace and seller.';
comment on column amzmp.product_type.product_type is 'Amazon''s name of the product type.';
comment on column amzmp.product_type.requirements is 'What it is the definition of: LISTING_PRODUCT_ONLY, a product''s facts; LISTING_OFFER_ONLY, an offer; LISTING, both.';
comment on column amzmp.product_type.definition_id is 'Number of the definition; its rules are in amzmp.product_type_attribute.';
comment on column amzmp.product_type.state is 'asked, loading (the schema is downloaded), known, absent (Amazon has no such product type) or failed.';
comment on column amzmp.product_type.reason is 'Why it is absent or failed.';
comment on column amzmp.product_type.asked_at is 'When Amazon was last asked.';
comment on column amzmp.product_type.checked_at is 'When Amazon last said which version counts.';
comment on column amzmp.product_type.known_at is 'Since when its rules are here as they are; null: there are none.';
comment on column amzmp.product_type.display_name is 'What Amazon calls it, in the marketplace''s language.';
comment on column amzmp.product_type.version is 'Amazon''s version.';
comment on column amzmp.product_type.locale is 'The language of titles and labels.';
comment on column amzmp.product_type.checksum is 'Amazon''s checksum of the schema: the Base64 of its MD5.';
comment on column amzmp.product_type.closed is 'Does it forbid attributes that it does not name?';
comment on column amzmp.product_type.tags is 'For each attribute which of marketplace_id and language_tag an instance of it takes.';
comment on column amzmp.product_type.document_id is 'The schema as Amazon sent it.';

/*
 * Asking.
 */

-- Ask Amazon for these definitions, unless that is under way. A known one keeps its rules meanwhile.
create function amzmp._ask_definitions(account_id bigint, channel_id bigint, product_types text[], requirements text, cause jsonb)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    asked integer;
begin
    with wanted as (
        insert into amzmp.product_type as t (account_id, channel_id, product_type, requirements)
        select _ask_definitions.account_id, _ask_definitions.channel_id, p.name, _ask_definitions.requirements
        from (select distinct u.name from unnest(product_types) as u (name)) as p
        order by p.name
        on conflict (account_id, channel_id, product_type, requirements) do update
        set state = 'asked',
            asked_at = now()
        where t.state not in ('asked', 'loading')
            or t.asked_at < now() - interval '1 hour'
        returning t.*
    ), queued as (
        insert into amzmp.request (account_id, operation, priority, params, handler, subject_kind, subject, channel_id, cause)
        select w.account_id, 'getDefinitionsProductType', 60, jsonb_build_object('productType', w.product_type,
                'marketplaceIds', jsonb_build_array(m.marketplace_id), 'sellerId', a.seller_id, 'requirements', w.requirements,
                'requirementsEnforced', 'ENFORCED'), '_handle_definition', 'definition', w.definition_id::text,
            w.channel_id, _ask_definitions.cause
        from wanted as w
        join amzmp.account as a using (account_id)
        join amzmp.channel as c using (account_id, channel_id)
        join amzmp.marketplace as m using (marketplace_id)
        where not exists (
            select
            from amzmp.request as r
            where (r.account_id, r.subject_kind, r.subject) = (w.account_id, 'definition', w.definition_id::text)
        )
        returning 1
    )
    select count(*) into asked from queued;
    if asked > 0 then
        perform amzmp._wake();
    end if;
    return asked;
end
$$;

comment on function amzmp._ask_definitions(bigint, bigint, text[], text, jsonb) is 'Inner: ask Amazon for definitions of product types. Returns for how many.';

-- The definition that a request is about.
create function amzmp._definition_of(request amzmp.request)
    returns amzmp.product_type
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select t
    from amzmp.product_type as t
    where (t.account_id, t.definition_id) = (($1).account_id, ($1).subject::bigint);
end;

-- Fetching has ended without rules.
create function amzmp._definition_missed(definition amzmp.product_type, state text, reason text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.product_type as t
    set state = _definition_missed.state,
        reason = _definition_missed.reason,
        checked_at = case when _definition_missed.state = 'absent' then now() else t.checked_at end
    where (t.account_id, t.definition_id) = (definition.account_id, definition.definition_id);
    perform amzmp._log(definition.account_id, definition.channel_id, 'warning', 'product_type', definition.product_type,
        format('the definition of product type %s could not be had: %s', definition.product_type, reason));
    perform amzmp._definition_settled(definition);
end
$$;

create function amzmp._handle_definition(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    a amzmp.answer_row;
    t amzmp.product_type;
begin
    -- a loop, because each has a document of its own
    foreach a in array answers
    loop
        t := amzmp._definition_of(a.request);
        continue when t.definition_id is null;
        if a.status = 404 then
            perform amzmp._definition_missed(t, 'absent', 'Amazon has no such product type');
        elsif a.outcome <> 'success' then
            perform amzmp._definition_missed(t, 'failed', coalesce(a.error_message, 'the answer was lost'));
        elsif a.body ->> 'productType' <> t.product_type then
            perform amzmp._definition_missed(t, 'absent', format('Amazon answers with the definition of %s', a.body ->> 'productType'));
        else
            perform amzmp._definition_answered(t, a.body);
        end if;
    end loop;
end
$$;

comment on function amzmp._handle_definition(amzmp.answer_row[]) is 'Inner: which version of a definition counts; fetch it, where it is not here.';

create function amzmp._definition_answered(definition amzmp.product_type, body jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    same constant boolean := definition.known_at is not null and definition.checksum = body #>> '{schema,checksum}';
begin
    update amzmp.product_type as t
    set state = case when same then 'known' else 'loading' end,
        reason = null,
        checked_at = now(),
        display_name = body ->> 'displayName',
        version = body #>> '{productTypeVersion,version}',
        locale = body ->> 'locale',
        checksum = body #>> '{schema,checksum}'
    where (t.account_id, t.definition_id) = (definition.account_id, definition.definition_id);
    if same then
        perform amzmp._definition_settled(definition);
    else
        perform amzmp._add_transfer(definition.account_id, 'definition/' || definition.definition_id,
            amzmp._new_document(definition.account_id, 'application/json'), body #>> '{schema,link,resource}');
    end if;
end
$$;

-- A download is over. A link that did not work is asked for anew by the flow.
create function amzmp._definition_downloaded(account_id bigint, definition_id bigint, document_id bigint, done boolean, failure text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    t amzmp.product_type;
begin
    select x.* into t
    from amzmp.product_type as x
    where (x.account_id, x.definition_id) = (_definition_downloaded.account_id, _definition_downloaded.definition_id)
    for no key update;
    if done and t.definition_id is not null then
        perform amzmp._add_task(account_id, 'definition', definition_id::text, null, now(),
            jsonb_build_object('document_id', _definition_downloaded.document_id));
    else
        perform amzmp._drop_documents(account_id, array[document_id]);
        if t.definition_id is not null then
            perform amzmp._definition_missed(t, 'failed', failure);
        end if;
    end if;
end
$$;

/*
 * Inner, own runner: from the schema's document to rules. What is not as announced is not used.
 */
create function amzmp._task_definition(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    fresh constant bigint := (argument ->> 'document_id')::bigint;
    t amzmp.product_type;
    content bytea;
    failure text;
begin
    select x.* into t
    from amzmp.product_type as x
    where (x.account_id, x.definition_id) = (_task_definition.account_id, _task_definition.subject::bigint)
    for no key update;
    if t.definition_id is null then
        perform amzmp._drop_documents(account_id, array[fresh]);
        return;
    end if;
    begin
        content := amzmp._read_document(account_id, fresh);
        if (t.checksum = any (array[encode(decode(md5(content), 'hex'), 'base64'), md5(content)])) is not true then
            raise data_corrupted using message = 'the schema does not have the checksum that Amazon announced';
        end if;
        perform amzmp._learn_definition(t, convert_from(content, 'UTF8')::jsonb);
    exception
        when data_exception or data_corrupted then
            get stacked diagnostics failure = message_text;
    end;
    if failure is null then
        perform amzmp._drop_documents(account_id, array[t.document_id]);
        update amzmp.product_type as x
        set document_id = fresh
        where (x.account_id, x.definition_id) = (t.account_id, t.definition_id);
    else
        perform amzmp._drop_documents(account_id, array[fresh]);
        perform amzmp._definition_missed(t, 'failed', failure);
    end if;
end
$$;

comment on function amzmp._task_definition(bigint, text, jsonb) is 'Inner, own runner: what a definition''s schema says, into rows.';

/*
 * What follows, page by page: content in the form that the definition asks for, where that has changed, and creations that
 * have waited for it.
 */
create function amzmp._definition_settled(definition amzmp.product_type, reformed boolean default false)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._add_task((definition).account_id, 'definition_settled', (definition).definition_id || '/', null, now(),
        jsonb_build_object('reformed', reformed));
end;

create function amzmp._task_definition_settled(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    t amzmp.product_type;
    skus text[];
begin
    select x.* into t
    from amzmp.product_type as x
    where (x.account_id, x.definition_id) = (_task_definition_settled.account_id, split_part(_task_definition_settled.subject, '/', 1)::bigint);
    skus := array(
        select d.sku
        from amzmp.listing_content as d
        where (d.account_id, d.channel_id, d.product_type, d.facet) = (t.account_id, t.channel_id, t.product_type, 'product')
            and d.sku > coalesce(argument ->> 'after', '')
        order by d.sku
        limit 2000
    );
    if (argument ->> 'reformed')::boolean then
        perform amzmp._recompute(account_id, skus, jsonb_build_object('reason', 'the definition of product type ' || t.product_type));
    end if;
    perform amzmp._plan_puts(account_id, t.channel_id, array(
            select l.sku
            from amzmp.listing as l
            where (l.account_id, l.channel_id) = (t.account_id, t.channel_id)
                and l.sku = any (skus)
                and l.state = 'queued'
                and l.step = 'product'
                and l.read_due_at is null
        ));
    if cardinality(skus) = 2000 then
        perform amzmp._add_task(account_id, 'definition_settled', t.definition_id || '/' || skus[2000], null, now(),
            argument || jsonb_build_object('after', skus[2000]));
    end if;
end
$$;

comment on function amzmp._task_definition_settled(bigint, text, jsonb) is 'Inner, own runner: what a definition that arrived, or could not be had, means for a page of the content that names it.';

/*
 * The flow.
 */

-- Is a definition needed by content, or by offers?
create function amzmp._definition_needed(definition amzmp.product_type)
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
        from amzmp.channel as c
        where (c.account_id, c.channel_id) = (definition.account_id, definition.channel_id)
            and c.active
            and not c.dropped
    ) and (
        definition.requirements = 'LISTING_OFFER_ONLY'
        or exists (
            select
            from amzmp.listing_content as d
            where (d.account_id, d.channel_id, d.product_type, d.facet)
                    = (definition.account_id, definition.channel_id, definition.product_type, 'product')
                and d.sends
        )
    );
end
$$;

-- Channels that have offers, and not the definition of what offers may say.
create function amzmp._channels_without_offer_definition(account_id bigint)
    returns setof bigint
    rows 1
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select c.channel_id
    from amzmp.channel as c
    where c.account_id = _channels_without_offer_definition.account_id
        and c.active
        and not c.dropped
        and exists (
            select from amzmp.listing as l where (l.account_id, l.channel_id) = (c.account_id, c.channel_id)
        )
        and not exists (
            select
            from amzmp.product_type as t
            where (t.account_id, t.channel_id, t.product_type, t.requirements) = (c.account_id, c.channel_id, 'PRODUCT', 'LISTING_OFFER_ONLY')
        );
end
$$;

create function amzmp._due_get_product_types(account_ids bigint[])
    returns table (account_id bigint, channel_id bigint)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select a.id, 0::bigint
    from unnest(account_ids) as a (id)
    where exists (
        select
        from amzmp.product_type as t
        where t.account_id = a.id
            and (t.state in ('asked', 'loading', 'failed')
                or t.checked_at < now() - (select amzmp._setting_interval(a.id, 0, 'definition_max_age')))
    )
        or exists (select from amzmp._channels_without_offer_definition(a.id));
end
$$;

create function amzmp._flow_get_product_types(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    cause constant jsonb := jsonb_build_object('flow_run', flow_run_id);
    max_age constant interval := amzmp._setting_interval(account_id, 0, 'definition_max_age');
begin
    perform amzmp._ask_definitions(_flow_get_product_types.account_id, c.id, '{PRODUCT}', 'LISTING_OFFER_ONLY', cause)
    from amzmp._channels_without_offer_definition(_flow_get_product_types.account_id) as c (id);
    perform amzmp._ask_definitions(w.account_id, w.channel_id, w.product_types, w.requirements, cause)
    from (
        select t.account_id, t.channel_id, t.requirements, array_agg(t.product_type) as product_types
        from amzmp.product_type as t
        where t.account_id = _flow_get_product_types.account_id
            and (t.state in ('asked', 'loading', 'failed') or t.checked_at < now() - max_age)
            and amzmp._definition_needed(t)
        group by t.account_id, t.channel_id, t.requirements
    ) as w;
    perform amzmp._forget_definitions(account_id, max_age * 2);
end
$$;

comment on function amzmp._flow_get_product_types(bigint, bigint, bigint) is 'Inner: the flow get_product_types: definitions that are missing, have failed or are old.';

-- Definitions that nothing needs and that nobody has asked for lately.
create function amzmp._forget_definitions(account_id bigint, unused interval)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    documents bigint[];
begin
    with gone as (
        delete from amzmp.product_type as t
        where t.account_id = _forget_definitions.account_id
            and t.asked_at < now() - unused
            and not amzmp._definition_needed(t)
        returning t.definition_id, t.document_id
    ), rules as (
        delete from amzmp.product_type_attribute as r
        using gone as g
        where (r.account_id, r.definition_id) = (_forget_definitions.account_id, g.definition_id)
    )
    select array_agg(g.document_id) into documents from gone as g;
    perform amzmp._drop_documents(account_id, documents);
end
$$;
