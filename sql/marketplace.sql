-- marketplace.sql
-- Where Amazon sells, and what each place is like: regions with their endpoints, marketplaces with their currency,
-- languages and hosts.
--
-- Reference data: filled here, the same in every database, read by everybody, written by nobody. What an account
-- really takes part in is Amazon's to say (amzmp.test_connection asks it); a channel (account.sql) is an account in
-- one of these marketplaces.

create table amzmp.region (
    region text primary key,
    aws_region text not null,
    endpoint text not null,
    sandbox_endpoint text not null
);

comment on table amzmp.region is 'Amazon''s selling regions. An account belongs to one; its refresh token is good for all marketplaces of it.';
comment on column amzmp.region.region is 'NA (the Americas), EU (Europe, Middle East, India, South Africa) or FE (Far East and Australia).';
comment on column amzmp.region.aws_region is 'The AWS region in which Amazon runs it, e.g. for the queues of notifications.';
comment on column amzmp.region.endpoint is 'Where calls of production accounts go.';
comment on column amzmp.region.sandbox_endpoint is 'Where calls of sandbox accounts go.';

insert into amzmp.region (region, aws_region, endpoint, sandbox_endpoint)
values
    ('NA', 'us-east-1', 'https://sellingpartnerapi-na.amazon.com', 'https://sandbox.sellingpartnerapi-na.amazon.com'),
    ('EU', 'eu-west-1', 'https://sellingpartnerapi-eu.amazon.com', 'https://sandbox.sellingpartnerapi-eu.amazon.com'),
    ('FE', 'us-west-2', 'https://sellingpartnerapi-fe.amazon.com', 'https://sandbox.sellingpartnerapi-fe.amazon.com');

-- The capabilities have three values: true and false are known, null is unknown. A flow that needs a capability is
-- refused where it is false, and allowed with a notice where it is unknown.
create table amzmp.marketplace (
    marketplace_id text primary key,
    country_code text not null unique,
    name text not null,
    region text not null references amzmp.region,
    currency text not null,
    currency_decimals smallint not null,
    language text not null,
    languages text[] not null,
    domain text not null,
    seller_central text not null,
    time_zone text not null,
    content boolean,
    offers boolean,
    orders boolean,
    fba boolean,
    b2b boolean,
    invoice_upload boolean,
    constraint marketplace_country_code_check check (country_code ~ '^[A-Z]{2}$'),
    constraint marketplace_currency_check check (currency ~ '^[A-Z]{3}$'),
    constraint marketplace_language_check check (language = languages[1])
);

comment on table amzmp.marketplace is 'The marketplaces that a channel can be made for, and what Amazon offers there.';
comment on column amzmp.marketplace.marketplace_id is 'Amazon''s id of the marketplace, as calls need it.';
comment on column amzmp.marketplace.country_code is 'ISO 3166 code of the country. UK is understood as GB wherever a marketplace is named.';
comment on column amzmp.marketplace.name is 'English name of the country.';
comment on column amzmp.marketplace.region is 'The selling region, and with it the endpoint.';
comment on column amzmp.marketplace.currency is 'ISO 4217 code of the currency in which offers are priced.';
comment on column amzmp.marketplace.currency_decimals is 'Decimal places of that currency; Amazon refuses prices with more.';
comment on column amzmp.marketplace.language is 'Default language tag of listing texts and of Amazon''s messages.';
comment on column amzmp.marketplace.languages is 'Every language tag in which texts are known to be taken, the default first.';
comment on column amzmp.marketplace.domain is 'Host of the shop that buyers see; links to offers begin with it.';
comment on column amzmp.marketplace.seller_central is 'Host on which the seller gives consent to an application.';
comment on column amzmp.marketplace.time_zone is 'Time zone for times that Amazon''s reports give without one.';
comment on column amzmp.marketplace.content is 'Can product texts and pictures be sent? Null: unknown.';
comment on column amzmp.marketplace.offers is 'Can offers (price, stock) be sent? Null: unknown.';
comment on column amzmp.marketplace.orders is 'Can orders be fetched? Null: unknown.';
comment on column amzmp.marketplace.fba is 'Does Amazon ship from its own warehouses (FBA) there? Null: unknown.';
comment on column amzmp.marketplace.b2b is 'Are there prices for business buyers? Null: unknown.';
comment on column amzmp.marketplace.invoice_upload is 'Can invoices be uploaded for buyers to fetch? Null: unknown.';

-- Offers and orders are what an id in this list is for, so they are true throughout. Invoices are taken from the eight
-- countries named below and nowhere else. FBA is known for Japan by its channel code, the other codes (AMAZON_NA,
-- AMAZON_EU) name whole regions and say nothing of one country.
insert into amzmp.marketplace (marketplace_id, country_code, name, region, currency, currency_decimals, languages,
    domain, seller_central, time_zone, language, offers, orders, fba, invoice_upload)
select m.marketplace_id, m.country_code, m.name, m.region, m.currency, case when m.currency = 'JPY' then 0 else 2 end,
    m.languages, m.domain, m.seller_central, m.time_zone, m.languages[1], true, true,
    case when m.country_code = 'JP' then true end,
    m.country_code in ('DE', 'ES', 'FR', 'GB', 'IT', 'NL', 'PL', 'SE')
from (
    values
        ('A2EUQ1WTGCTBG2', 'CA', 'Canada', 'NA', 'CAD', array['en_CA', 'fr_CA'], 'www.amazon.ca', 'sellercentral.amazon.ca', 'America/Los_Angeles'),
        ('ATVPDKIKX0DER', 'US', 'United States', 'NA', 'USD', array['en_US', 'es_US'], 'www.amazon.com', 'sellercentral.amazon.com', 'America/Los_Angeles'),
        ('A1AM78C64UM0Y8', 'MX', 'Mexico', 'NA', 'MXN', array['es_MX'], 'www.amazon.com.mx', 'sellercentral.amazon.com.mx', 'America/Mexico_City'),
        ('A2Q3Y263D00KWC', 'BR', 'Brazil', 'NA', 'BRL', array['pt_BR'], 'www.amazon.com.br', 'sellercentral.amazon.com.br', 'America/Sao_Paulo'),
        ('A28R8C7NBKEWEA', 'IE', 'Ireland', 'EU', 'EUR', array['en_IE'], 'www.amazon.ie', 'sellercentral.amazon.ie', 'Europe/Dublin'),
        ('A1RKKUPIHCS9HS', 'ES', 'Spain', 'EU', 'EUR', array['es_ES'], 'www.amazon.es', 'sellercentral-europe.amazon.com', 'Europe/Madrid'),
        ('A1F83G8C2ARO7P', 'GB', 'United Kingdom', 'EU', 'GBP', array['en_GB'], 'www.amazon.co.uk', 'sellercentral-europe.amazon.com', 'Europe/London'),
        ('A13V1IB3VIYZZH', 'FR', 'France', 'EU', 'EUR', array['fr_FR'], 'www.amazon.fr', 'sellercentral-europe.amazon.com', 'Europe/Paris'),
        ('AMEN7PMS3EDWL', 'BE', 'Belgium', 'EU', 'EUR', array['fr_BE', 'nl_BE'], 'www.amazon.com.be', 'sellercentral.amazon.com.be', 'Europe/Brussels'),
        ('A1805IZSGTT6HS', 'NL', 'Netherlands', 'EU', 'EUR', array['nl_NL'], 'www.amazon.nl', 'sellercentral.amazon.nl', 'Europe/Amsterdam'),
        ('A1PA6795UKMFR9', 'DE', 'Germany', 'EU', 'EUR', array['de_DE'], 'www.amazon.de', 'sellercentral-europe.amazon.com', 'Europe/Berlin'),
        ('APJ6JRA9NG5V4', 'IT', 'Italy', 'EU', 'EUR', array['it_IT'], 'www.amazon.it', 'sellercentral-europe.amazon.com', 'Europe/Rome'),
        ('A2NODRKZP88ZB9', 'SE', 'Sweden', 'EU', 'SEK', array['sv_SE'], 'www.amazon.se', 'sellercentral.amazon.se', 'Europe/Stockholm'),
        ('AE08WJ6YKNBMC', 'ZA', 'South Africa', 'EU', 'ZAR', array['en_ZA'], 'www.amazon.co.za', 'sellercentral.amazon.co.za', 'Africa/Johannesburg'),
        ('A1C3SOZRARQ6R3', 'PL', 'Poland', 'EU', 'PLN', array['pl_PL'], 'www.amazon.pl', 'sellercentral.amazon.pl', 'Europe/Warsaw'),
        ('ARBP9OOSHTCHU', 'EG', 'Egypt', 'EU', 'EGP', array['ar_AE'], 'www.amazon.eg', 'sellercentral.amazon.eg', 'Africa/Cairo'),
        ('A33AVAJ2PDY3EV', 'TR', 'Turkey', 'EU', 'TRY', array['tr_TR'], 'www.amazon.com.tr', 'sellercentral.amazon.com.tr', 'Europe/Istanbul'),
        ('A17E79C6D8DWNP', 'SA', 'Saudi Arabia', 'EU', 'SAR', array['ar_AE'], 'www.amazon.sa', 'sellercentral.amazon.sa', 'Asia/Riyadh'),
        ('A2VIGQ35RCS4UG', 'AE', 'United Arab Emirates', 'EU', 'AED', array['en_AE'], 'www.amazon.ae', 'sellercentral.amazon.ae', 'Asia/Dubai'),
        ('A21TJRUUN4KGV', 'IN', 'India', 'EU', 'INR', array['en_IN'], 'www.amazon.in', 'sellercentral.amazon.in', 'Asia/Kolkata'),
        ('A19VAU5U5O7RUS', 'SG', 'Singapore', 'FE', 'SGD', array['en_SG'], 'www.amazon.sg', 'sellercentral.amazon.sg', 'Asia/Singapore'),
        ('A39IBJ37TRP1C6', 'AU', 'Australia', 'FE', 'AUD', array['en_AU'], 'www.amazon.com.au', 'sellercentral.amazon.com.au', 'Australia/Sydney'),
        ('A1VC38T7YXB528', 'JP', 'Japan', 'FE', 'JPY', array['ja_JP'], 'www.amazon.co.jp', 'sellercentral.amazon.co.jp', 'Asia/Tokyo')
) as m (marketplace_id, country_code, name, region, currency, languages, domain, seller_central, time_zone);

-- The marketplace that a person means by a country code or an id. Pass a typed text: with a bare literal PostgreSQL
-- would take the call for a cast to the table's array type, which has the same name.
create function amzmp._marketplace(code_or_id text)
    returns amzmp.marketplace
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant text := upper(btrim(code_or_id));
    found_row amzmp.marketplace;
begin
    select m.* into found_row
    from amzmp.marketplace as m
    where m.marketplace_id = wanted
        or m.country_code = case wanted when 'UK' then 'GB' else wanted end;
    if not found then
        raise exception using
            errcode = 'AZ201',
            message = format('unknown marketplace %L', code_or_id),
            hint = (
                select 'Give Amazon''s id of the marketplace or one of the country codes '
                    || string_agg(m.country_code, ', ' order by m.country_code) || '.'
                from amzmp.marketplace as m
            );
    end if;
    return found_row;
end
$$;

comment on function amzmp._marketplace(text) is 'The marketplace of a country code (UK as well as GB) or of Amazon''s id; error AZ201 for anything else.';
