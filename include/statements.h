/*
 * statements.h
 *	  What utility statements mean for our processes.
 */
#ifndef AMZMP_STATEMENTS_H
#define AMZMP_STATEMENTS_H

extern void statements_install_hook(void);

#endif
