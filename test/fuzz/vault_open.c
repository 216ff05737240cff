/*
 * vault_open.c
 *	  Sealed values as a table might hold them: only what was sealed for this very place opens, and opens to what it was.
 *
 * The first byte says how far the input is believed: 0 takes the rest as the sealed value; else the rest is the text
 * that is sealed, of which then one byte is changed, or none, and one of purpose and row, or neither.
 */
#include "postgres.h"

#include "key_file.h"
#include "thrown.h"
#include "vault.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const SealKey key = {.id = 7, .bytes = "thirty-two bytes that are a key."};

/* In place of the key file. */
void
key_file_define_settings(void)
{
}

void
key_file_require(void)
{
}

const SealKey *
key_file_current(void)
{
	return &key;
}

const SealKey *
key_file_find(uint32 id)
{
	return id == key.id ? &key : NULL;
}

static bytea *
as_bytea(const uint8_t *data, size_t size)
{
	bytea *value = palloc(VARHDRSZ + size);

	SET_VARSIZE(value, VARHDRSZ + size);
	memcpy(VARDATA(value), data, size);
	return value;
}

static char *opened;
static Size opened_length;

/* Does it open there? Then the text is in opened. */
static bool
opens(const bytea *sealed, const char *purpose, const char *row)
{
	opened = NULL;
	return !FUZZ_CAUGHT(opened = vault_open(sealed, purpose, row, &opened_length));
}

static void
check_altered(const uint8_t *data, size_t size, uint8_t place, uint8_t change)
{
	bytea *sealed = vault_seal((const char *) data, size, "purpose", "row");
	const char *purpose = place == 255 ? "purposes" : "purpose";
	const char *row = place == 254 ? "" : "row";
	bool altered = place >= 254 || change != 0;

	if (place < 254)
		VARDATA(sealed)[place % (VARSIZE(sealed) - VARHDRSZ)] ^= change;
	if (opens(sealed, purpose, row) == altered)
		abort();
	if (!altered && (opened_length != size || memcmp(opened, data, size) != 0))
		abort();
	vault_forget(opened, opened_length);
	pfree(sealed);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size >= 3 && data[0] != 0)
		check_altered(data + 3, size - 3, data[1], data[2]);
	else
	{
		bytea *sealed = as_bytea(data + (size > 0), size - (size > 0));

		if (opens(sealed, "purpose", "row"))
			abort();
		pfree(sealed);
	}
	return 0;
}
