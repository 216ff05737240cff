/*
 * vault.c
 *	  Sealing and opening of secrets and personal data with AES-256-GCM.
 *
 * The keys live in a file outside the database (key_file.c), so that a dump, a replica or a stolen table gives nothing
 * away. Rotation makes a new key and reseals.
 *
 * A sealed value is
 *
 *		1 byte format | 4 bytes key id | 12 bytes nonce | ciphertext | 16 bytes tag
 *
 * with big-endian numbers. The first five bytes, the purpose and the row's key are the associated data: a value that is
 * copied to another column or row does not open. The nonce is random, which is safe for 2^32 values a key.
 *
 * Not here: which columns are sealed and who may see them (SQL), and blanking of secrets in logs (mask.c).
 *
 * No state of its own.
 */
#include "postgres.h"

#include <openssl/err.h>
#include <openssl/evp.h>

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "compat.h"
#include "errcodes.h"
#include "key_file.h"
#include "vault.h"

#define VAULT_FORMAT       1
#define VAULT_ID_BYTES     4
#define VAULT_NONCE_BYTES  12
#define VAULT_TAG_BYTES    16
#define VAULT_HEADER_BYTES (1 + VAULT_ID_BYTES + VAULT_NONCE_BYTES)
#define VAULT_MAX_LENGTH   (MaxAllocSize - VAULT_OVERHEAD - VARHDRSZ - 1)

PG_FUNCTION_INFO_V1(amzmp_seal);
PG_FUNCTION_INFO_V1(amzmp_open);
PG_FUNCTION_INFO_V1(amzmp_reseal);
PG_FUNCTION_INFO_V1(amzmp_key_id);
PG_FUNCTION_INFO_V1(amzmp_key_usable);
PG_FUNCTION_INFO_V1(amzmp_create_key);
PG_FUNCTION_INFO_V1(amzmp_add_key);

void
vault_define_settings(void)
{
	key_file_define_settings();
}

/* ---------------------------------------------------------------------------
 * Sealing and opening
 * ---------------------------------------------------------------------------
 */

/* What a sealed value is bound to. The purpose's length stands in front, so that no two pairs look the same. */
static void
make_associated_data(StringInfo aad, const unsigned char *header, const char *purpose, const char *row)
{
	uint32 length = pg_hton32((uint32) strlen(purpose));

	initStringInfo(aad);
	appendBinaryStringInfo(aad, (const char *) header, 1 + VAULT_ID_BYTES);
	appendBinaryStringInfo(aad, (const char *) &length, sizeof(length));
	appendStringInfoString(aad, purpose);
	appendStringInfoString(aad, row);
}

/*
 * AES-256-GCM in one go; `out` has room for `length` bytes. Sealing fills `tag`, opening checks it. False when
 * OpenSSL refuses, which for opening means that key, associated data, text or tag do not belong together.
 */
static bool
gcm(bool seal, const SealKey *key, const unsigned char *nonce, const StringInfo aad, const unsigned char *in,
	int length, unsigned char *out, unsigned char *tag)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	int done;
	bool ok;

	ok = context != NULL && EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, key->bytes, nonce, seal) == 1 &&
		 EVP_CipherUpdate(context, NULL, &done, (unsigned char *) aad->data, aad->len) == 1 &&
		 EVP_CipherUpdate(context, out, &done, in, length) == 1 &&
		 (seal || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, VAULT_TAG_BYTES, tag) == 1) &&
		 EVP_CipherFinal_ex(context, out + length, &done) == 1 &&
		 (!seal || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, VAULT_TAG_BYTES, tag) == 1);
	EVP_CIPHER_CTX_free(context);
	if (!ok)
		ERR_clear_error();
	return ok;
}

bytea *
vault_seal(const char *data, Size len, const char *purpose, const char *row)
{
	bytea *sealed;
	unsigned char *header;
	StringInfoData aad;
	uint32 id;
	bool ok;

	if (len > VAULT_MAX_LENGTH)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("value is too long to be sealed")));
	key_file_require();

	sealed = palloc(VARHDRSZ + VAULT_OVERHEAD + len);
	SET_VARSIZE(sealed, VARHDRSZ + VAULT_OVERHEAD + len);
	header = (unsigned char *) VARDATA(sealed);
	header[0] = VAULT_FORMAT;
	id = pg_hton32(key_file_current()->id);
	memcpy(header + 1, &id, VAULT_ID_BYTES);
	make_associated_data(&aad, header, purpose, row);

	ok = pg_strong_random(header + 1 + VAULT_ID_BYTES, VAULT_NONCE_BYTES) &&
		 gcm(true, key_file_current(), header + 1 + VAULT_ID_BYTES, &aad, (const unsigned char *) data, (int) len,
			 header + VAULT_HEADER_BYTES, header + VAULT_HEADER_BYTES + len);
	pfree(aad.data);
	if (!ok)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not seal a value"),
						errdetail("The cryptographic library or the source of random numbers failed.")));
	return sealed;
}

static void
pg_attribute_noreturn() sealed_corrupt(const char *purpose, const char *row)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED), errmsg("sealed value does not open"),
			 errdetail("It was altered, or sealed for another place than purpose \"%s\", row \"%s\".", purpose, row)));
}

static uint32
sealed_key_id(const bytea *sealed)
{
	uint32 id;

	memcpy(&id, VARDATA_ANY(sealed) + 1, VAULT_ID_BYTES);
	return pg_ntoh32(id);
}

/* Is this in our format at all? Everything that reads a sealed value asks first. */
static bool
sealed_is_whole(const bytea *sealed)
{
	return VARSIZE_ANY_EXHDR(sealed) >= VAULT_OVERHEAD && *VARDATA_ANY(sealed) == VAULT_FORMAT;
}

char *
vault_open(const bytea *sealed, const char *purpose, const char *row, Size *len)
{
	const unsigned char *header = (const unsigned char *) VARDATA_ANY(sealed);
	const SealKey *key;
	unsigned char tag[VAULT_TAG_BYTES];
	StringInfoData aad;
	char *data;
	bool ok;

	if (!sealed_is_whole(sealed))
		sealed_corrupt(purpose, row);
	key_file_require();
	key = key_file_find(sealed_key_id(sealed));
	if (key == NULL)
	{
		/* it may be new since the statement began */
		key_file_require_now();
		key = key_file_find(sealed_key_id(sealed));
	}
	if (key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_AMZMP_KEY_UNUSABLE), errmsg("sealed value needs a key that is missing"),
				 errdetail("It was sealed under the key %u, which the key file does not contain.", sealed_key_id(sealed)),
				 errhint("Put that key's line back into the key file, or set the credentials anew.")));

	*len = VARSIZE_ANY_EXHDR(sealed) - VAULT_OVERHEAD;
	data = palloc(*len + 1);
	memcpy(tag, header + VAULT_HEADER_BYTES + *len, VAULT_TAG_BYTES);
	make_associated_data(&aad, header, purpose, row);
	ok = gcm(false, key, header + 1 + VAULT_ID_BYTES, &aad, header + VAULT_HEADER_BYTES, (int) *len,
			 (unsigned char *) data, tag);
	pfree(aad.data);
	if (!ok)
	{
		vault_forget(data, *len); /* what is not authentic is nobody's business either */
		sealed_corrupt(purpose, row);
	}
	data[*len] = '\0';
	return data;
}

void
vault_forget(char *data, Size len)
{
	if (data == NULL)
		return;
	explicit_bzero(data, len);
	pfree(data);
}

void
vault_forget_text(const char *text)
{
	if (text != NULL)
		vault_forget(unconstify(char *, text), strlen(text));
}

/* ---------------------------------------------------------------------------
 * SQL
 * ---------------------------------------------------------------------------
 */

/*
 * The inner functions are executable by amzmp_owner alone. That must hold even when somebody grants them by mistake,
 * so they look at who is asking: amzmp_owner itself, not a member of it, or a superuser.
 */
static void
require_owner(void)
{
	if (GetUserId() != get_role_oid("amzmp_owner", true) && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to use the key that seals secrets"),
				 errdetail("Only amzmp's own functions do.")));
}

/* Free the copy of an argument that detoasting may have made, after wiping it. */
static void
forget_argument(FunctionCallInfo fcinfo, int argument, void *value)
{
	if (value != DatumGetPointer(PG_GETARG_DATUM(argument)))
		vault_forget(value, VARSIZE_ANY(value));
}

Datum
amzmp_seal(PG_FUNCTION_ARGS)
{
	text *value;
	bytea *sealed;

	require_owner();
	value = PG_GETARG_TEXT_PP(0);
	sealed = vault_seal(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), text_to_cstring(PG_GETARG_TEXT_PP(1)),
						text_to_cstring(PG_GETARG_TEXT_PP(2)));
	forget_argument(fcinfo, 0, value);
	PG_RETURN_BYTEA_P(sealed);
}

Datum
amzmp_open(PG_FUNCTION_ARGS)
{
	char *data;
	Size length;
	text *result;

	require_owner();
	data = vault_open(PG_GETARG_BYTEA_PP(0), text_to_cstring(PG_GETARG_TEXT_PP(1)),
					  text_to_cstring(PG_GETARG_TEXT_PP(2)), &length);

	/* A dump may have been restored into another encoding; the usual error would quote the bytes. */
	if (!pg_verifymbstr(data, (int) length, true))
	{
		vault_forget(data, length);
		ereport(ERROR, (errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
						errmsg("sealed value is not valid in the database's encoding"),
						errdetail("It was sealed in a database of another encoding.")));
	}
	result = cstring_to_text_with_len(data, (int) length);
	vault_forget(data, length);
	PG_RETURN_TEXT_P(result);
}

Datum
amzmp_reseal(PG_FUNCTION_ARGS)
{
	char *purpose;
	char *row;
	char *data;
	Size length;
	bytea *sealed;

	require_owner();
	purpose = text_to_cstring(PG_GETARG_TEXT_PP(1));
	row = text_to_cstring(PG_GETARG_TEXT_PP(2));
	data = vault_open(PG_GETARG_BYTEA_PP(0), purpose, row, &length);
	sealed = vault_seal(data, length, purpose, row);
	vault_forget(data, length);
	PG_RETURN_BYTEA_P(sealed);
}

Datum
amzmp_key_id(PG_FUNCTION_ARGS)
{
	bytea *sealed = PG_GETARG_BYTEA_PP(0);

	if (!sealed_is_whole(sealed))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("value is not a sealed one")));
	PG_RETURN_INT64(sealed_key_id(sealed));
}

Datum
amzmp_key_usable(PG_FUNCTION_ARGS)
{
	KeyProblem found = key_file_refresh();

	if (found.reason == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(found.reason));
}

Datum
amzmp_create_key(PG_FUNCTION_ARGS)
{
	if (!superuser())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be superuser to create the key file")));
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%u", key_file_create())));
}

Datum
amzmp_add_key(PG_FUNCTION_ARGS)
{
	require_owner();
	PG_RETURN_INT64(key_file_add());
}
