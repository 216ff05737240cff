/*
 * thrown.c
 *	  The server's ereport, for code that throws: what is said is only looked at by format, and ERROR jumps.
 */
#include "postgres.h"

#include "thrown.h"

sigjmp_buf fuzz_thrown;

bool
errstart_cold(int elevel, const char *domain)
{
	return true;
}

int
errcode(int sqlerrcode)
{
	return 0;
}

/* Formatted into nothing, so that a wrong argument is seen. */
static int
format(const char *fmt, va_list arguments)
{
	char text[1024];

	(void) vsnprintf(text, sizeof(text), fmt, arguments);
	return 0;
}

#define MESSAGE(name)                                                                                                  \
	int name(const char *fmt, ...)                                                                                     \
	{                                                                                                                  \
		va_list arguments;                                                                                             \
		int result;                                                                                                    \
                                                                                                                       \
		va_start(arguments, fmt);                                                                                      \
		result = format(fmt, arguments);                                                                               \
		va_end(arguments);                                                                                             \
		return result;                                                                                                 \
	}

MESSAGE(errmsg)
MESSAGE(errdetail)
MESSAGE(errhint)

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	siglongjmp(fuzz_thrown, 1);
}
