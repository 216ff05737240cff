/*
 * vault.h
 *	  Sealing and opening of secrets and personal data.
 */
#ifndef AMZMP_VAULT_H
#define AMZMP_VAULT_H

/* One sealed value: 1 byte format, 4 bytes key id, 12 bytes nonce, ciphertext, 16 bytes tag. */
#define VAULT_OVERHEAD (1 + 4 + 12 + 16)

extern void vault_define_settings(void);

/*
 * Seal `len` bytes. `purpose` (for example "refresh_token") and `row` (for example "account:42") are bound as
 * associated data: a value copied to another row or column does not open. Throws when there is no usable key.
 * Result is palloc'd in the current context.
 */
extern bytea *vault_seal(const char *data, Size len, const char *purpose, const char *row);

/*
 * Open a sealed value. Throws ERRCODE_DATA_CORRUPTED when it was altered or belongs elsewhere. The result is
 * palloc'd and NUL-terminated; *len is its length. The caller wipes it with vault_forget().
 */
extern char *vault_open(const bytea *sealed, const char *purpose, const char *row, Size *len);

/* Overwrite and pfree. NULL is allowed. */
extern void vault_forget(char *data, Size len);
extern void vault_forget_text(const char *text);

#endif
