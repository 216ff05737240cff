/*
 * credentials.h
 *	  Settings around credentials files, endpoints and the node's identity (see credentials.c).
 */
#ifndef AMZMP_CREDENTIALS_H
#define AMZMP_CREDENTIALS_H

extern void credentials_define_settings(void);

#endif
