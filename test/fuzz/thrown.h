/*
 * thrown.h
 *	  Errors of the tested code, caught: ereport(ERROR) ends what FUZZ_CAUGHT runs.
 */
#ifndef FUZZ_THROWN_H
#define FUZZ_THROWN_H

#include <setjmp.h>

extern sigjmp_buf fuzz_thrown;

/* Was it thrown? A throw leaves behind what was allocated before it, as in the server, where the context goes with it. */
#define FUZZ_CAUGHT(call) (sigsetjmp(fuzz_thrown, 0) != 0 || ((call), false))

#endif
