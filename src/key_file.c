/*
 * key_file.c
 *	  The file of the keys that seal secrets: read, checked, created, extended.
 *
 * Each line is `key-id hex`, a number and 64 hexadecimal digits; the first line is the key that seals, the others open what
 * was sealed earlier. The file must be private to the server's user, by the rules PostgreSQL has for its TLS key.
 *
 * Its name is a superuser's matter: no message shown to others contains it, and none quotes a piece of its content.
 *
 * Not here: what is done with the keys (vault.c).
 *
 * Life cycle: a process reads the file when it first needs it and keeps the keys until the file changes (each use
 * looks at its inode, size and times) or the process ends. Changes replace the file in one step.
 */
#include "postgres.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xact.h"
#include "lib/stringinfo.h"
#include "storage/fd.h"
#include "utils/guc.h"

#include "errcodes.h"
#include "key_file.h"
#include "vault.h"

#define MAX_KEYS      64
#define MAX_FILE_SIZE 16384

/* The parsed file, and what it looked like then. count = 0: nothing is cached. */
typedef struct KeyRing
{
	int count;
	struct stat file;
	SealKey keys[MAX_KEYS];
} KeyRing;

static char *key_file;
static KeyRing ring;

#define HINT_CREATE "A superuser sets amzmp.key_file and calls amzmp.create_key()."
#define HINT_REPAIR "See the file that the setting amzmp.key_file names."

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
key_file_define_settings(void)
{
	DefineCustomStringVariable("amzmp.key_file", "Names the file of the keys that seal secrets and personal data.",
							   "Readable by the server's user alone. Keep a copy of it apart from the database's backups.",
							   &key_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_key_file, NULL, NULL);
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
		return problem("Others can read or write the key file.",
					   "Its mode must be 0600 or less if it belongs to the server's user, 0640 or less if it belongs to root.");
	if (file->st_size == 0)
		return problem("The key file is empty.", HINT_REPAIR);
	if (file->st_size > MAX_FILE_SIZE)
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
parse_key_line(const char *at, const char *end, SealKey *key)
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
	if (end - at != 2 * SEAL_KEY_BYTES)
		return false;
	for (int i = 0; i < SEAL_KEY_BYTES; i++)
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

const SealKey *
key_file_find(uint32 id)
{
	for (int i = 0; i < ring.count; i++)
	{
		if (ring.keys[i].id == id)
			return &ring.keys[i];
	}
	return NULL;
}

const SealKey *
key_file_current(void)
{
	return &ring.keys[0];
}

/* Fill the ring from the file's text. Empty lines are allowed. */
static KeyProblem
parse_key_file(const char *text, const char *end)
{
	int line = 0;

	while (text < end)
	{
		const char *eol = memchr(text, '\n', end - text);
		SealKey key;

		if (eol == NULL)
			eol = end;
		line++;
		if (strspn(text, " \t\r") < (Size) (eol - text))
		{
			bool valid = parse_key_line(text, eol, &key);

			if (valid && ring.count < MAX_KEYS && key_file_find(key.id) == NULL)
				ring.keys[ring.count++] = key;
			else
				valid = false;
			explicit_bzero(&key, sizeof(key));
			if (!valid)
				return problem(psprintf("Line %d of the key file is not a key, repeats a key's id, or is one too many.",
										line),
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
	char text[MAX_FILE_SIZE + 1];
	struct stat file;
	ssize_t length;
	KeyProblem result;

	if (fstat(fd, &file) != 0)
		return problem(psprintf("The key file cannot be examined: %m."), HINT_REPAIR);
	result = check_file(&file);
	if (result.reason != NULL)
		return result;

	length = read(fd, text, MAX_FILE_SIZE);
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
KeyProblem
key_file_refresh(void)
{
	struct stat now;
	KeyProblem result;
	int fd;

	if (key_file == NULL || *key_file == '\0')
	{
		ring_forget();
		return problem("The setting amzmp.key_file is empty.", HINT_CREATE);
	}
	if (ring.count > 0 && stat(key_file, &now) == 0 && same_file(&now, &ring.file))
		return problem(NULL, NULL);

	ring_forget();

	/* O_NONBLOCK: a pipe in its place must not hold us up before we see that it is one. */
	fd = OpenTransientFile(key_file, O_RDONLY | O_NONBLOCK | PG_BINARY);
	if (fd < 0)
		return errno == ENOENT ? problem("The key file does not exist.", HINT_CREATE)
							   : problem(psprintf("The key file cannot be opened: %m."), HINT_REPAIR);
	result = ring_load(fd);
	CloseTransientFile(fd);
	if (result.reason != NULL)
		ring_forget();
	return result;
}

void
key_file_require_now(void)
{
	KeyProblem found = key_file_refresh();

	if (found.reason != NULL)
		ereport(ERROR, (errcode(ERRCODE_AMZMP_KEY_UNUSABLE), errmsg("the key that seals secrets cannot be used"),
						errdetail_internal("%s", found.reason), errhint("%s", found.hint)));
}

/* A statement may seal hundreds of values: it looks at the file once. */
void
key_file_require(void)
{
	static TimestampTz looked_at = 0;

	if (ring.count > 0 && looked_at == GetCurrentStatementStartTimestamp())
		return;
	key_file_require_now();
	looked_at = GetCurrentStatementStartTimestamp();
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
append_key_line(StringInfo text, const SealKey *key)
{
	appendStringInfo(text, "%u ", key->id);
	for (int i = 0; i < SEAL_KEY_BYTES; i++)
	{
		appendStringInfoCharMacro(text, "0123456789abcdef"[key->bytes[i] >> 4]);
		appendStringInfoCharMacro(text, "0123456789abcdef"[key->bytes[i] & 15]);
	}
	appendStringInfoChar(text, '\n');
}

/* Ids are random, so that a value from another installation is told from one that was altered. */
static void
make_key(SealKey *key)
{
	do
	{
		if (!pg_strong_random(key, sizeof(*key)))
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not make a random key")));
		key->id &= PG_INT32_MAX;
	} while (key->id == 0 || key_file_find(key->id) != NULL);
}

/* Write a key file that begins with a new key, followed by those of the ring; returns the new key's id. */
static uint32
put_new_key_first(const char *path, bool replace, int directory)
{
	StringInfoData text;
	SealKey key;
	uint32 id;

	initStringInfo(&text);
	enlargeStringInfo(&text, MAX_FILE_SIZE); /* so that it is never moved, leaving a copy behind */
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

uint32
key_file_create(void)
{
	int directory;
	uint32 id;

	if (key_file == NULL || *key_file == '\0')
		ereport(ERROR, (errcode(ERRCODE_AMZMP_KEY_UNUSABLE), errmsg("no key file is named"),
						errdetail("The setting amzmp.key_file is empty."),
						errhint("ALTER SYSTEM SET amzmp.key_file = '/absolute/path'; SELECT pg_reload_conf();")));

	ring_forget(); /* a new file begins with nothing but the new key */
	directory = lock_key_directory(key_file);
	id = put_new_key_first(key_file, false, directory);
	CloseTransientFile(directory);
	return id;
}

uint32
key_file_add(void)
{
	char path[PATH_MAX];
	int directory;
	uint32 id;

	key_file_require_now();

	/* Through a symbolic link, the file itself is replaced, not the link. */
	if (realpath(key_file, path) == NULL)
		key_file_failed("could not find the key file");
	directory = lock_key_directory(path);
	key_file_require_now(); /* as it is now that nobody else changes it */
	if (ring.count >= MAX_KEYS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the key file contains %d keys already", ring.count),
				 errhint("Remove lines of old keys that no sealed value needs any more.")));
	id = put_new_key_first(path, true, directory);
	CloseTransientFile(directory);
	ring_forget(); /* what the same statement seals next is sealed under the new key */
	return id;
}
