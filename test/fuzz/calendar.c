/*
 * calendar.c
 *	  The server's two calendar functions for fuzzed code, by those of the C library.
 */
#include "postgres.h"

#include <time.h>

#include "utils/datetime.h"

int
date2j(int year, int month, int day)
{
	struct tm date = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day};

	return timegm(&date) / SECS_PER_DAY + UNIX_EPOCH_JDATE;
}

void
j2date(int jd, int *year, int *month, int *day)
{
	time_t seconds = (time_t) (jd - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
	struct tm date;

	gmtime_r(&seconds, &date);
	*year = date.tm_year + 1900;
	*month = date.tm_mon + 1;
	*day = date.tm_mday;
}
