/*
 * answer.h
 *	  Fuzzed bytes as an answer of Amazon, as http_transfer.c would have made it.
 */
#ifndef FUZZ_ANSWER_H
#define FUZZ_ANSWER_H

#include "http.h"

/* The first two bytes choose the status, a line may follow as the value of each header we read, the rest is the body. */
extern HttpAnswer *fuzz_answer(const uint8_t *data, size_t size);

/* Ends the run when a text that was cut to fit is not valid UTF-8 or holds control characters. */
extern void fuzz_check_text(const char *text, size_t room);

#endif
