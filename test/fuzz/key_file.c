/*
 * key_file.c
 *	  The text of a key file: keys are taken as they stand there, or a sentence says which line is wrong and quotes nothing.
 */
#include "postgres.h"

/* For its parser, which nothing else needs. */
#include "../../src/key_file.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_ring(void)
{
	if (ring.count < 1 || ring.count > MAX_KEYS)
		abort();
	for (int i = 0; i < ring.count; i++)
		if (ring.keys[i].id == 0 || key_file_find(ring.keys[i].id) != &ring.keys[i])
			abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = palloc(size + 1);
	KeyProblem found;

	memcpy(text, data, size);
	text[size] = '\0';
	ring_forget();
	found = parse_key_file(text, text + size);
	if (found.reason == NULL)
		check_ring();
	else if (strncmp(found.reason, "Line ", 5) == 0)
		pfree(unconstify(char *, found.reason));
	pfree(text);
	return 0;
}
