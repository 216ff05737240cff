/*
 * sender.h
 *	  The process that sends a database's requests (see sender.c).
 */
#ifndef AMZMP_SENDER_H
#define AMZMP_SENDER_H

extern void sender_define_settings(void);

#endif
