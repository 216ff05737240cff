/*
 * json_scalar.c
 *	  Times, amounts and counts as Amazon writes them in JSON strings.
 *
 * What is none of them is refused, never guessed at and never an error: one bad value must not fail the page it came in.
 * Bytes in, values out; no state, no memory of its own, throws nothing, and is used outside the server too (test/fuzz).
 */
#include "postgres.h"

#include "utils/datetime.h"

#include "json_scalar.h"

#define MOST_AMOUNT_DIGITS 100
#define MOST_COUNT_DIGITS  9
#define MOST_FRACTION      6 /* digits of a second that a timestamp has */

typedef struct Scan
{
	const char *at;
	const char *end;
} Scan;

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
take_char(Scan *scan, char c)
{
	if (scan->at >= scan->end || *scan->at != c)
		return false;
	scan->at++;
	return true;
}

/* Exactly so many digits, whose number lies between these. */
static bool
take_number(Scan *scan, int digits, int least, int most, int *number)
{
	if (scan->end - scan->at < digits)
		return false;
	*number = 0;
	for (int i = 0; i < digits; i++)
	{
		if (!is_digit(scan->at[i]))
			return false;
		*number = *number * 10 + (scan->at[i] - '0');
	}
	scan->at += digits;
	return *number >= least && *number <= most;
}

/* A day that is in the calendar. */
static bool
take_date(Scan *scan, int64 *days)
{
	int year;
	int month;
	int day;
	int real_year;
	int real_month;
	int real_day;

	if (!take_number(scan, 4, 1, 9999, &year) || !take_char(scan, '-') || !take_number(scan, 2, 1, 12, &month) ||
		!take_char(scan, '-') || !take_number(scan, 2, 1, 31, &day))
		return false;
	*days = date2j(year, month, day) - POSTGRES_EPOCH_JDATE;
	j2date(date2j(year, month, day), &real_year, &real_month, &real_day);
	return real_day == day;
}

/* What follows the point, in microseconds, rounded as the server does. */
static bool
take_fraction(Scan *scan, int64 *fraction)
{
	int digits = 0;
	bool up = false;

	*fraction = 0;
	for (; scan->at < scan->end && is_digit(*scan->at); scan->at++, digits++)
		if (digits < MOST_FRACTION)
			*fraction = *fraction * 10 + (*scan->at - '0');
		else if (digits == MOST_FRACTION)
			up = *scan->at >= '5';
	for (int i = digits; i < MOST_FRACTION; i++)
		*fraction *= 10;
	*fraction += up;
	return digits > 0;
}

static bool
take_time_of_day(Scan *scan, int64 *microseconds)
{
	int hour;
	int minute;
	int second = 0;
	int64 fraction = 0;

	if (!take_number(scan, 2, 0, 23, &hour) || !take_char(scan, ':') || !take_number(scan, 2, 0, 59, &minute))
		return false;
	if (take_char(scan, ':') &&
		(!take_number(scan, 2, 0, 59, &second) || (take_char(scan, '.') && !take_fraction(scan, &fraction))))
		return false;
	*microseconds = ((int64) hour * SECS_PER_HOUR + minute * SECS_PER_MINUTE + second) * USECS_PER_SEC + fraction;
	return true;
}

/* Z, or hours and minutes from it. */
static bool
take_zone(Scan *scan, int64 *microseconds)
{
	int hours;
	int minutes;
	bool west;

	*microseconds = 0;
	if (take_char(scan, 'Z'))
		return true;
	west = take_char(scan, '-');
	if ((!west && !take_char(scan, '+')) || !take_number(scan, 2, 0, 15, &hours))
		return false;
	take_char(scan, ':');
	if (!take_number(scan, 2, 0, 59, &minutes))
		return false;
	*microseconds = ((int64) hours * SECS_PER_HOUR + minutes * SECS_PER_MINUTE) * USECS_PER_SEC * (west ? -1 : 1);
	return true;
}

bool
json_scalar_time(const char *text, int length, TimestampTz *time)
{
	Scan scan = {text, text + length};
	int64 days;
	int64 of_day;
	int64 zone;

	if (!take_date(&scan, &days) || !take_char(&scan, 'T') || !take_time_of_day(&scan, &of_day) ||
		!take_zone(&scan, &zone) || scan.at != scan.end)
		return false;
	*time = days * USECS_PER_DAY + of_day - zone;
	return true;
}

bool
json_scalar_is_amount(const char *text, int length)
{
	Scan scan = {text, text + length};
	const char *digits;

	if (length > MOST_AMOUNT_DIGITS)
		return false;
	take_char(&scan, '-');
	for (digits = scan.at; scan.at < scan.end && is_digit(*scan.at);)
		scan.at++;
	if (scan.at == digits)
		return false;
	if (!take_char(&scan, '.'))
		return scan.at == scan.end;
	for (digits = scan.at; scan.at < scan.end && is_digit(*scan.at);)
		scan.at++;
	return scan.at > digits && scan.at == scan.end;
}

bool
json_scalar_count(const char *text, int length, int32 *count)
{
	Scan scan = {text, text + length};

	return length >= 1 && length <= MOST_COUNT_DIGITS && take_number(&scan, length, 0, PG_INT32_MAX, count);
}
