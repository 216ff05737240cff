/*
 * mask.c
 *	  Text that is about to be logged: what follows the beginning of a token is blanked, wherever it stands, and what has
 *	  been blanked stays as it is.
 */
#include "postgres.h"

#include "mask.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = palloc(size + 1);
	char *masked;

	memcpy(text, data, size);
	text[size] = '\0';
	size = strlen(text); /* a text value has no NUL */
	masked = mask_secrets(text, size);
	for (const char *at = strstr(masked, "Atza|"); at != NULL; at = strstr(at + 1, "Atza|"))
		if (isalnum((unsigned char) at[strlen("Atza|")]))
			abort();
	pfree(masked);
	pfree(text);
	return 0;
}
