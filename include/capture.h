/*
 * capture.h
 *	  The trigger on the shop's tables (see capture.c). Everything but its settings is reached through SQL.
 */
#ifndef AMZMP_CAPTURE_H
#define AMZMP_CAPTURE_H

extern void capture_define_settings(void);

#endif
