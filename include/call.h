/*
 * call.h
 *	  amzmp.call: one reading operation, performed in the calling backend.
 */
#ifndef AMZMP_CALL_H
#define AMZMP_CALL_H

extern void call_define_settings(void);

#endif
