/*
 * json_scalar.h
 *	  Times, amounts and counts as Amazon writes them in JSON strings.
 */
#ifndef AMZMP_JSON_SCALAR_H
#define AMZMP_JSON_SCALAR_H

#include "datatype/timestamp.h"

/* A time such as 2026-03-01T09:30:00.125Z. False, and `time` untouched, for anything else. */
extern bool json_scalar_time(const char *text, int length, TimestampTz *time);

/* Is this a decimal number without an exponent, such as -12.50? */
extern bool json_scalar_is_amount(const char *text, int length);

/* One to nine digits. False, and `count` untouched, for anything else. */
extern bool json_scalar_count(const char *text, int length, int32 *count);

#endif
