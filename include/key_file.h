/*
 * key_file.h
 *	  The file of the keys that seal secrets (internal to vault.c).
 */
#ifndef AMZMP_KEY_FILE_H
#define AMZMP_KEY_FILE_H

#define SEAL_KEY_BYTES 32

typedef struct SealKey
{
	uint32 id; /* never 0 */
	unsigned char bytes[SEAL_KEY_BYTES];
} SealKey;

/* Why the key file cannot be used; whole sentences, in the current memory context. reason = NULL: it can. */
typedef struct KeyProblem
{
	const char *reason;
	const char *hint;
} KeyProblem;

extern void key_file_define_settings(void);

/* Read the file if it changed. Throws only when there are no file descriptors left. */
extern KeyProblem key_file_refresh(void);

/* The same; throws ERRCODE_AMZMP_KEY_UNUSABLE when there is a problem. The first looks once a statement only. */
extern void key_file_require(void);
extern void key_file_require_now(void);

/* The key that seals, and the key of an id or NULL. After key_file_require; valid until the next call of it. */
extern const SealKey *key_file_current(void);
extern const SealKey *key_file_find(uint32 id);

/* Write a file with one new key where there is none, or put a new key in front of the others. Return the key's id. */
extern uint32 key_file_create(void);
extern uint32 key_file_add(void);

#endif
