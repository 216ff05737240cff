/*
 * launcher.h
 *	  The process that starts a sender in each database that has one coming.
 */
#ifndef AMZMP_LAUNCHER_H
#define AMZMP_LAUNCHER_H

extern void launcher_define_settings(void);
extern void launcher_register(void); /* from _PG_init, while preloading */

#endif
