#!/usr/bin/env bash
# amzmp.call against every fault a network has: a clear error with its own SQLSTATE, nothing that stays behind, and no
# secret in the log.
. "$(dirname "$0")/../lib/tap.sh"

# The simulator's door for tests, without a program that a bare machine may not have.
control()
{
	local port=${AMZMP_SIMULATOR_URL##*:} answer
	exec 4<>"/dev/tcp/127.0.0.1/$port"
	printf '%s /_control/%s HTTP/1.0\r\ncontent-length: %d\r\n\r\n%s' "$1" "$2" "${#3}" "$3" >&4
	answer=$(cat <&4)
	exec 4<&-
	printf '%s' "${answer##*$'\r\n\r\n'}"
}

# The SQLSTATE of a statement that fails, else what it returned.
outcome()
{
	psql -XqAt -v VERBOSITY=sqlstate "${@/#/-c}" 2>&1 | sed 's/^ERROR:  //'
}

search()
{
	outcome "select amzmp.call('shop', 'searchCatalogItems', '{\"keywords\": [\"nothing of that name\"], \"marketplaceIds\": [\"A1PA6795UKMFR9\"]}') ->> 'numberOfResults'"
}

# struck KIND MEMBERS EXPECTED NAME: the next search meets this fault, the one after it none.
struck()
{
	control POST faults "{\"operation\": \"searchCatalogItems\", \"kind\": \"$1\"$2}" >/dev/null
	is "$(search)" "$3" "$4"
	is "$(search)" 0 'and the next call works'
}

simulator_start call --rate-scale 0
cluster_start call "amzmp.max_response = '512kB'"
sql 'create extension amzmp' 'select amzmp.create_key()' >/dev/null
sql "select amzmp.create_application('app', 'amzn1.application-oa2-client.demo')" \
	"select amzmp.create_account('shop', 'EU', 'app', 'A1DEMOSELLER', 'mock', '$AMZMP_SIMULATOR_URL', rate_scale => 0)" \
	"select amzmp.create_account('revoked', 'EU', 'app', 'A1DEMOSELLER', 'mock', '$AMZMP_SIMULATOR_URL', rate_scale => 0)" \
	"select amzmp.create_account('empty', 'EU', 'app', 'A1DEMOSELLER', 'mock', '$AMZMP_SIMULATOR_URL', rate_scale => 0)" \
	"select amzmp.set_credentials('shop', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo')" \
	"select amzmp.set_credentials('revoked', refresh_token => 'Atzr|canary-revoked')" \
	"create role operator login" "grant amzmp_operator to operator" "create role stranger login" >/dev/null

is "$(search)" 0 'an operation that reads is performed'
is "$(outcome "select jsonb_array_length(amzmp.call('shop', 'getMarketplaceParticipations') -> 'payload') > 5")" t 'so is one without parameters'
is "$(outcome "select amzmp.call('shop', 'getListingsItem', '{\"sku\": \"no/such #sku\", \"marketplaceIds\": [\"A1PA6795UKMFR9\"]}')")" AZ102 'an unknown SKU is Amazon'"'"'s error'
is "$(outcome "select amzmp.call('shop', 'getListingsItem', '{\"marketplaceIds\": [\"A1PA6795UKMFR9\"]}')")" AZ202 'a missing path parameter is told before anything is sent'

# What is refused.
is "$(outcome "select amzmp.call('shop', 'putListingsItem', '{\"sku\": \"a\"}', '{}')")" AZ004 'an operation that writes is refused'
is "$(outcome "select amzmp.call('shop', 'createRestrictedDataToken', '{}', '{}')")" AZ004 'so is one that answers with secrets'
is "$(outcome "select amzmp.call('shop', 'noSuchOperation')")" AZ201 'so is an unknown one'
is "$(outcome "select amzmp.call('empty', 'getMarketplaceParticipations')")" AZ003 'an account without credentials says so'
is "$(outcome "select amzmp.call('revoked', 'getMarketplaceParticipations')")" AZ103 'so does one whose refresh token was revoked'
is "$(outcome 'begin' 'create table written (a integer)' "select amzmp.call('shop', 'getMarketplaceParticipations')" 'rollback')" AZ203 'a transaction that has written cannot call'
is "$(outcome 'set role stranger' "select amzmp.call('shop', 'getMarketplaceParticipations')")" 42501 'a stranger cannot call'

# Buyers' data.
order="select amzmp.call('shop', 'getOrder', '{\"orderId\": \"111-1111111-1111111\"}')"
is "$(outcome 'set role operator' "$order")" 42501 'buyers'"'"' data need a role of their own'
is "$(grep -c 'getOrder of account' "$(cluster_log call)")" 0 'a refusal leaves no trace of a reading'
is "$(outcome 'grant amzmp_buyer_data to operator' 'set role operator' 'begin' "$order" 'rollback')" AZ102 'with it the call goes out'
is "$(grep -c 'operator.*getOrder of account' "$(cluster_log call)")" 1 'and leaves a line in the server log that a rollback does not erase'

# Faults.
struck drop_before '' AZ101 'a connection that ends before the request is done'
struck drop_after '' AZ101 'an answer that never comes'
struck truncate '' AZ101 'an answer cut short'
struck content_length '' AZ101 'an answer that lies about its length'
struck not_json '' AZ105 'an answer that is not JSON'
struck nul '' AZ105 'an answer with a NUL'
struck bad_utf8 '' AZ105 'an answer that is not UTF-8'
struck escape '' AZ105 'an answer with an escaped NUL'
struck nested '' AZ105 'an answer nested without end'
struck huge ', "bytes": 1000000000' AZ105 'an answer of a gigabyte'
struck status ', "status": 429' AZ104 'too many requests'
struck status ', "status": 503' AZ102 'a service that is down'
struck expired_token '' 0 'a token that expired is renewed'

control POST faults '{"operation": "searchCatalogItems", "kind": "delay", "delay_ms": 20000}' >/dev/null
is "$(outcome "set statement_timeout = '500ms'" "select amzmp.call('shop', 'searchCatalogItems', '{\"keywords\": [\"a\"], \"marketplaceIds\": [\"A1PA6795UKMFR9\"]}')")" 57014 'a call can be cancelled'
is "$(search)" 0 'and the next call works'

like "$(control GET stats '')" '"overruns":0,"violations":0,' 'no request broke a rule of Amazon, no usage plan was overrun'

simulator_stop call
is "$(search)" AZ101 'a server that is not there'

is "$(grep -cE 'Atza\||Atzr\||oa2-cs' "$(cluster_log call)")" 0 'no secret is in the log'
finish
