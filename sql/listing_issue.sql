/*
 * listing_issue.sql
 *	  What Amazon says is wrong with a listing, as of the last answer about it: kept whole, and in a line for people.
 */
create table amzmp.listing_issue (
    account_id bigint not null,
    channel_id bigint not null,
    sku text not null,
    position integer not null,
    code text not null,
    message text not null,
    severity text not null,
    attribute_names text[] not null default '{}',
    categories text[] not null default '{}',
    enforcement text[] not null default '{}',
    seen_at timestamptz not null,
    primary key (account_id, channel_id, sku, position)
);

comment on table amzmp.listing_issue is 'What Amazon says is wrong with a listing, as of the last answer about it.';
comment on column amzmp.listing_issue.account_id is 'The account.';
comment on column amzmp.listing_issue.channel_id is 'The channel.';
comment on column amzmp.listing_issue.sku is 'The SKU.';
comment on column amzmp.listing_issue.position is 'Place in Amazon''s list.';
comment on column amzmp.listing_issue.code is 'Amazon''s issue code.';
comment on column amzmp.listing_issue.message is 'Amazon''s words.';
comment on column amzmp.listing_issue.severity is 'ERROR, WARNING or INFO.';
comment on column amzmp.listing_issue.attribute_names is 'The attributes that it is about.';
comment on column amzmp.listing_issue.categories is 'Amazon''s categories, e.g. MISSING_ATTRIBUTE.';
comment on column amzmp.listing_issue.enforcement is 'What Amazon does because of it, e.g. LISTING_SUPPRESSED.';
comment on column amzmp.listing_issue.seen_at is 'When Amazon said so.';

create type amzmp.issue_report as (channel_id bigint, sku text, issues jsonb, seen_at timestamptz);

comment on type amzmp.issue_report is 'Inner: all that Amazon says is wrong with a listing, as it came.';

-- Replace what is known about these listings. An issue without marketplaces is about all of them.
create function amzmp._keep_issues(account_id bigint, reports amzmp.issue_report[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    delete from amzmp.listing_issue as o
    using unnest(reports) as r
    where o.account_id = _keep_issues.account_id
        and (o.channel_id, o.sku) = (r.channel_id, r.sku);

    insert into amzmp.listing_issue (account_id, channel_id, sku, position, code, message, severity, attribute_names,
        categories, enforcement, seen_at)
    select c.account_id, r.channel_id, r.sku, i.position, coalesce(i.issue ->> 'code', ''),
        coalesce(i.issue ->> 'message', ''), coalesce(i.issue ->> 'severity', 'INFO'),
        amzmp._text_array(i.issue -> 'attributeNames'), amzmp._text_array(i.issue -> 'categories'),
        amzmp._text_array(jsonb_path_query_array(i.issue, '$.enforcements.actions[*].action')), r.seen_at
    from unnest(reports) as r
    join amzmp.channel as c on (c.account_id, c.channel_id) = (_keep_issues.account_id, r.channel_id),
        lateral amzmp._issues_here(r.issues, c.marketplace_id) with ordinality as i (issue, position);
end
$$;

-- A JSON array of strings as an array; anything else as an empty one.
create function amzmp._text_array(list jsonb)
    returns text[]
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array(
        select e.value
        from jsonb_array_elements_text(case jsonb_typeof(list) when 'array' then list else '[]' end) as e
    )
$$;

-- Those of a list of issues that concern a marketplace; all where none is named.
create function amzmp._issues_here(issues jsonb, marketplace_id text)
    returns setof jsonb
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select e.issue
    from jsonb_array_elements(case jsonb_typeof(issues) when 'array' then issues else '[]' end) as e (issue)
    where marketplace_id is null
        or coalesce(jsonb_array_length(e.issue -> 'marketplaceIds'), 0) = 0
        or e.issue -> 'marketplaceIds' ? marketplace_id
$$;

-- The errors of a list of issues in one line; null where there is none.
create function amzmp._issue_summary(issues jsonb, marketplace_id text)
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select string_agg(format('%s (%s)', i.issue ->> 'message', i.issue ->> 'code'), '; ')
    from amzmp._issues_here(issues, marketplace_id) as i (issue)
    where i.issue ->> 'severity' = 'ERROR'
$$;
