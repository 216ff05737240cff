/*
 * mask.h
 *	  Blanking of credentials in text that is about to be logged.
 */
#ifndef AMZMP_MASK_H
#define AMZMP_MASK_H

/*
 * A palloc'd copy of `length` bytes of `text`, NUL-terminated, in which tokens, client secrets, signatures and the
 * values of credential headers and fields are replaced by "***". It may blank too much, it must not blank too little.
 */
extern char *mask_secrets(const char *text, Size length);

#endif
