/*
 * vault.c
 *	  Sealing and opening of secrets and personal data with AES-256-GCM.
 *
 * The key lives in a file outside the database, so that a dump, a replica or a stolen table gives nothing away.
 * Each line of that file is `key-id hex`, a number and 64 hexadecimal digits; the first line is the key that seals,
 * the others open what was sealed earlier. Rotation puts a new line in front and reseals.
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
 * Life cycle: a process reads the key file when it first needs it and keeps the keys until the file changes (each use
 * looks at its inode, size and times) or the process ends. The file's name is a superuser's secret too: no message
 * shown to others contains it.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "errcodes.h"
#include "vault.h"

#define VAULT_FORMAT        1
#define VAULT_ID_BYTES      4
#define VAULT_KEY_BYTES     32
#define VAULT_NONCE_BYTES   12
#define VAULT_TAG_BYTES     16
#define VAULT_HEADER_BYTES  (1 + VAULT_ID_BYTES + VAULT_NONCE_BYTES)
#define VAULT_MAX_KEYS      64
#define VAULT_MAX_FILE_SIZE 16384
#define VAULT_MAX_LENGTH    (MaxAllocSize - VAULT_OVERHEAD - VARHDRSZ - 1)

typedef struct VaultKey
{
	uint32 id;
	unsigned char bytes[VAULT_KEY_BYTES];
} VaultKey;

/* The parsed key file, and what it looked like then. count = 0: nothing is cached. */
typedef struct KeyRing
{
	int count;
	struct stat file;
	VaultKey keys[VAULT_MAX_KEYS];
} KeyRing;

static char *vault_key_file;
static KeyRing ring;

/* Why the key file cannot be used; whole sentences. reason = NULL: it can. */
typedef struct KeyProblem
{
	const char *reason;
	const char *hint;
} KeyProblem;

#define HINT_CREATE "A superuser sets amzmp.key_file and calls amzmp.create_key()."
#define HINT_REPAIR "See the file that the setting amzmp.key_file names."

PG_FUNCTION_INFO_V1(amzmp_seal);
PG_FUNCTION_INFO_V1(amzmp_open);
PG_FUNCTION_INFO_V1(amzmp_reseal);
PG_FUNCTION_INFO_V1(amzmp_key_id);
PG_FUNCTION_INFO_V1(amzmp_key_usable);
PG_FUNCTION_INFO_V1(amzmp_create_key);
PG_FUNCTION_INFO_V1(amzmp_add_key);

/* ---------------------------------------------------------------------------
 * Settings
 * ---------------------------------------------------------------------------
 */

static bool
check_key_file(char **newval, void **extra, GucSource source)
{
	if (**newval != '\0' && !is_absolute_path(*newval))
	{
		GUC_check_errdetail("The key file must be given by an absolute path.");
		return false;
	}
	return true;
}

void
vault_define_settings(void)
{
	DefineCustomStringVariable(
		"amzmp.key_file", "Names the file of the keys that seal secrets and personal data.",
		"Readable by the server's user alone. Keep a copy of it apart from the database's backups.", &vault_key_file,
		"", PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_key_file, NULL, NULL);
}

/* ---------------------------------------------------------------------------
 * Reading the key file
 * ---------------------------------------------------------------------------
 */

static void
ring_forget(void)
{
	explicit_bzero(&ring, sizeof(ring));
}

static KeyProblem
problem(const char *reason, const char *hint)
{
	return (KeyProblem){reason, hint};
}

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
		   a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
		   a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* The rules PostgreSQL has for its TLS key: ours and private, or root's and readable by our group at most. */
static KeyProblem
check_file(const struct stat *file)
{
	if (!S_ISREG(file->st_mode))
		return problem("The key file is not a regular file.", HINT_REPAIR);
	if (file->st_uid != geteuid() && file->st_uid != 0)
		return problem("The key file belongs neither to the server's user nor to root.", HINT_REPAIR);
	if ((file->st_uid == geteuid() && (file->st_mode & (S_IRWXG | S_IRWXO))) ||
		(file->st_uid == 0 && (file->st_mode & (S_IWGRP | S_IXGRP | S_IRWXO))))
		return problem(
			"Others can read or write the key file.",
			"Its mode must be 0600 or less if it belongs to the server's user, 0640 or less if it belongs to root.");
	if (file->st_size == 0)
		return problem("The key file is empty.", HINT_REPAIR);
	if (file->st_size > VAULT_MAX_FILE_SIZE)
		return problem("The key file is too large to be one.", HINT_REPAIR);
	return problem(NULL, NULL);
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Read one line, `end` being its end, into `key`. Written out so that no error can quote a piece of a key. */
static bool
parse_key_line(const char *at, const char *end, VaultKey *key)
{
	uint64 id = 0;

	if (at == end || *at < '0' || *at > '9')
		return false;
	for (; at < end && *at >= '0' && *at <= '9'; at++)
	{
		id = id * 10 + (*at - '0');
		if (id > PG_UINT32_MAX)
			return false;
	}
	if (id == 0 || at == end || (*at != ' ' && *at != '\t'))
		return false;
	while (at < end && (*at == ' ' || *at == '\t'))
		at++;
	while (end > at && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
		end--;
	if (end - at != 2 * VAULT_KEY_BYTES)
		return false;
	for (int i = 0; i < VAULT_KEY_BYTES; i++)
	{
		int high = hex_digit(at[2 * i]);
		int low = hex_digit(at[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		key->bytes[i] = (unsigned char) (high << 4 | low);
	}
	key->id = (uint32) id;
	return true;
}

static const VaultKey *
ring_find(uint32 id)
{
	for (int i = 0; i < ring.count; i++)
	{
		if (ring.keys[i].id == id)
			return &ring.keys[i];
	}
	return NULL;
}

/* Fill the ring from the file's text. Empty lines are allowed. */
static KeyProblem
parse_key_file(const char *text, const char *end)
{
	int line = 0;

	while (text < end)
	{
		const char *eol = memchr(text, '\n', end - text);
		VaultKey key;

		if (eol == NULL)
			eol = end;
		line++;
		if (strspn(text, " \t\r") < (Size) (eol - text))
		{
			bool valid = parse_key_line(text, eol, &key);

			if (valid && ring.count < VAULT_MAX_KEYS && ring_find(key.id) == NULL)
				ring.keys[ring.count++] = key;
			else
				valid = false;
			explicit_bzero(&key, sizeof(key));
			if (!valid)
				return problem(
					psprintf("Line %d of the key file is not a key, repeats a key's id, or is one too many.", line),
					"A line is a number from 1 to 4294967295, a space and 64 hexadecimal digits.");
		}
		text = eol + 1;
	}
	if (ring.count == 0)
		return problem("The key file contains no key.", HINT_REPAIR);
	return problem(NULL, NULL);
}

/* Read the open file into the ring. The text is wiped whatever comes of it. */
static KeyProblem
ring_load(int fd)
{
	char text[VAULT_MAX_FILE_SIZE + 1];
	struct stat file;
	ssize_t length;
	KeyProblem result;

	if (fstat(fd, &file) != 0)
		return problem(psprintf("The key file cannot be examined: %m."), HINT_REPAIR);
	result = check_file(&file);
	if (result.reason != NULL)
		return result;

	length = read(fd, text, VAULT_MAX_FILE_SIZE);
	if (length < 0)
		return problem(psprintf("The key file cannot be read: %m."), HINT_REPAIR);
	text[length] = '\0';
	result = parse_key_file(text, text + length);
	explicit_bzero(text, sizeof(text));
	if (result.reason == NULL)
		ring.file = file;
	return result;
}

/*
 * Make the ring agree with the key file as it is now. Throws only when there are no file descriptors left. The
 * returned sentences live in the current context.
 */
static KeyProblem
ring_refresh(void)
{
	struct stat now;
	KeyProblem result;
	int fd;

	if (vault_key_file == NULL || *vault_key_file == '\0')
	{
		ring_forget();
		return problem("The setting amzmp.key_file is empty.", HINT_CREATE);
	}
	if (ring.count > 0 && stat(vault_key_file, &now) == 0 && same_file(&now, &ring.file))
		return problem(NULL, NULL);

	ring_forget();

	/* O_NONBLOCK: a pipe in its place must not hold us up before we see that it is one. */
	fd = OpenTransientFile(vault_key_file, O_RDONLY | O_NONBLOCK | PG_BINARY);
	if (fd < 0)
		return errno == ENOENT ? problem("The key file does not exist.", HINT_CREATE)
							   : problem(psprintf("The key file cannot be opened: %m."), HINT_REPAIR);
	result = ring_load(fd);
	CloseTransientFile(fd);
	if (result.reason != NULL)
		ring_forget();
	return result;
}

static void
ring_require(void)
{
	KeyProblem found = ring_refresh();

	if (found.reason != NULL)
		ereport(ERROR, (errcode(ERRCODE_AMZMP_KEY_UNUSABLE), errmsg("the key that seals secrets cannot be used"),
						errdetail_internal("%s", found.reason), errhint("%s", found.hint)));
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
gcm(bool seal, const VaultKey *key, const unsigned char *nonce, const StringInfo aad, const unsigned char *in,
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
	ring_require();

	sealed = palloc(VARHDRSZ + VAULT_OVERHEAD + len);
	SET_VARSIZE(sealed, VARHDRSZ + VAULT_OVERHEAD + len);
	header = (unsigned char *) VARDATA(sealed);
	header[0] = VAULT_FORMAT;
	id = pg_hton32(ring.keys[0].id);
	memcpy(header + 1, &id, VAULT_ID_BYTES);
	make_associated_data(&aad, header, purpose, row);

	ok = pg_strong_random(header + 1 + VAULT_ID_BYTES, VAULT_NONCE_BYTES) &&
		 gcm(true, &ring.keys[0], header + 1 + VAULT_ID_BYTES, &aad, (const unsigned char *) data, (int) len,
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
	const VaultKey *key;
	unsigned char tag[VAULT_TAG_BYTES];
	StringInfoData aad;
	char *data;
	bool ok;

	if (!sealed_is_whole(sealed))
		sealed_corrupt(purpose, row);
	ring_require();
	key = ring_find(sealed_key_id(sealed));
	if (key == NULL)
		ereport(ERROR, (errcode(ERRCODE_AMZMP_KEY_UNUSABLE), errmsg("sealed value needs a key that is missing"),
						errdetail("It was sealed under the key %u, which the key file does not contain.",
								  sealed_key_id(sealed)),
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

/* ---------------------------------------------------------------------------
 * Writing the key file
 * ---------------------------------------------------------------------------
 */

static void
pg_attribute_noreturn() key_file_failed(const char *message)
{
	ereport(ERROR, (errcode_for_file_access(), errmsg("%s: %m", message),
					errhint("The server's user must be able to write to the key file's directory, or an administrator "
							"edits the file.")));
}

/*
 * One writer at a time: two rotations that both read the old file would lose a key that had already sealed
 * something. The lock is on the directory, because the file itself is replaced, and ends with the transaction or process.
 */
static int
lock_key_directory(const char *path)
{
	char *directory = pstrdup(path);
	int fd;

	get_parent_directory(directory);
	fd = OpenTransientFile(directory, O_RDONLY);
	if (fd < 0)
		key_file_failed("could not open the key file's directory");
	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
	{
		if (errno != EWOULDBLOCK)
			key_file_failed("could not lock the key file's directory");
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE), errmsg("another session is changing the key file")));
	}
	return fd;
}

/* A new file beside the key file, whole and on disk. fsync() itself: the setting `fsync` is not about keys. */
static void
write_key_text(const char *path, const StringInfo text)
{
	int fd;

	if (unlink(path) != 0 && errno != ENOENT)
		key_file_failed("could not remove what an interrupted change of the key file left");
	fd = OpenTransientFilePerm(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | PG_BINARY, S_IRUSR | S_IWUSR);
	if (fd < 0)
		key_file_failed("could not create the key file");
	errno = ENOSPC; /* what a short write means */
	if (write(fd, text->data, text->len) != text->len || fsync(fd) != 0)
	{
		int cause = errno;

		unlink(path);
		errno = cause;
		key_file_failed("could not write the key file");
	}
	if (CloseTransientFile(fd) != 0)
		key_file_failed("could not close the key file");
}

/* Put the text where the key file is to be, in one step: over an existing file, or only if there is none. */
static void
install_key_text(const char *path, const StringInfo text, bool replace, int directory)
{
	char *fresh = psprintf("%s.new", path);

	write_key_text(fresh, text);
	if ((replace ? rename(fresh, path) : link(fresh, path)) != 0)
	{
		int cause = errno;

		unlink(fresh);
		errno = cause;
		if (cause == EEXIST)
			ereport(ERROR, (errcode(ERRCODE_DUPLICATE_FILE), errmsg("the key file exists already"),
							errhint("Use amzmp.rotate_key() for a new key.")));
		key_file_failed("could not put the key file in its place");
	}
	if (!replace)
		unlink(fresh);
	if (fsync(directory) != 0)
		key_file_failed("could not flush the key file's directory");
}

static void
append_key_line(StringInfo text, const VaultKey *key)
{
	appendStringInfo(text, "%u ", key->id);
	for (int i = 0; i < VAULT_KEY_BYTES; i++)
	{
		appendStringInfoCharMacro(text, "0123456789abcdef"[key->bytes[i] >> 4]);
		appendStringInfoCharMacro(text, "0123456789abcdef"[key->bytes[i] & 15]);
	}
	appendStringInfoChar(text, '\n');
}

/* Ids are random, so that a value from another installation is told from one that was altered. */
static void
make_key(VaultKey *key)
{
	do
	{
		if (!pg_strong_random(key, sizeof(*key)))
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not make a random key")));
		key->id &= PG_INT32_MAX;
	} while (key->id == 0 || ring_find(key->id) != NULL);
}

/* Write a key file that begins with a new key, followed by those of the ring; returns the new key's id. */
static uint32
put_new_key_first(const char *path, bool replace, int directory)
{
	StringInfoData text;
	VaultKey key;
	uint32 id;

	initStringInfo(&text);
	enlargeStringInfo(&text, VAULT_MAX_FILE_SIZE); /* so that it is never moved, leaving a copy behind */
	make_key(&key);
	id = key.id;
	append_key_line(&text, &key);
	explicit_bzero(&key, sizeof(key));
	for (int i = 0; i < ring.count; i++)
		append_key_line(&text, &ring.keys[i]);

	PG_TRY();
	{
		install_key_text(path, &text, replace, directory);
	}
	PG_FINALLY();
	{
		vault_forget(text.data, text.maxlen);
	}
	PG_END_TRY();
	return id;
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
	KeyProblem found = ring_refresh();

	if (found.reason == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(found.reason));
}

Datum
amzmp_create_key(PG_FUNCTION_ARGS)
{
	int directory;
	uint32 id;

	if (!superuser())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be superuser to create the key file")));
	if (vault_key_file == NULL || *vault_key_file == '\0')
		ereport(ERROR, (errcode(ERRCODE_AMZMP_KEY_UNUSABLE), errmsg("no key file is named"),
						errdetail("The setting amzmp.key_file is empty."),
						errhint("ALTER SYSTEM SET amzmp.key_file = '/absolute/path'; SELECT pg_reload_conf();")));

	ring_forget(); /* a new file begins with nothing but the new key */
	directory = lock_key_directory(vault_key_file);
	id = put_new_key_first(vault_key_file, false, directory);
	CloseTransientFile(directory);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%u", id)));
}

Datum
amzmp_add_key(PG_FUNCTION_ARGS)
{
	char path[PATH_MAX];
	int directory;
	uint32 id;

	require_owner();
	ring_require();

	/* Through a symbolic link, the file itself is replaced, not the link. */
	if (realpath(vault_key_file, path) == NULL)
		key_file_failed("could not find the key file");
	directory = lock_key_directory(path);
	ring_require(); /* as it is now that nobody else changes it */
	if (ring.count >= VAULT_MAX_KEYS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the key file contains %d keys already", ring.count),
				 errhint("Remove lines of old keys that no sealed value needs any more.")));
	id = put_new_key_first(path, true, directory);
	CloseTransientFile(directory);
	PG_RETURN_INT64(id);
}
