/*
 * clock.c: virtual time and the events that wait for it.
 *
 * Virtual time starts at the real time and runs `scale` times as fast; a test may also push it forward. Events (a
 * verdict, a shipment that becomes visible) are kept in a heap and run under the state lock, at the start of every
 * request and a few times a second besides.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double scale = 1;
static Micros base_real;
static Micros base_virtual;

Micros
clock_real(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * SECOND + now.tv_nsec / 1000;
}

Micros
clock_now(void)
{
	return base_virtual + (Micros) ((double) (clock_real() - base_real) * scale);
}

double
clock_scale(void)
{
	return scale;
}

void
clock_set_scale(double new_scale)
{
	Micros now = clock_now();

	base_real = clock_real();
	base_virtual = now;
	scale = new_scale;
}

void
clock_advance(double seconds)
{
	base_virtual += (Micros) (seconds * (double) SECOND);
}

void
clock_reset(double new_scale)
{
	base_real = base_virtual = clock_real();
	scale = new_scale;
}

/* ISO 8601 with milliseconds and Z, as Amazon prints it */
char *
time_text(Micros when, char out[32])
{
	time_t seconds = when / SECOND;
	struct tm parts;
	size_t used;

	gmtime_r(&seconds, &parts);
	used = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &parts);
	snprintf(out + used, 32 - used, ".%03dZ", (int) (when % SECOND / 1000));
	return out;
}

json_t *
time_json(Micros when)
{
	char text[32];

	return json_string(time_text(when, text));
}

void
time_http(Micros when, char out[40])
{
	time_t seconds = when / SECOND;
	struct tm parts;

	gmtime_r(&seconds, &parts);
	strftime(out, 40, "%a, %d %b %Y %H:%M:%S GMT", &parts);
}

/* Reads the fraction and the zone that follow the seconds. */
static bool
time_parse_rest(const char *rest, Micros *when)
{
	int hours;
	int minutes;
	int used = 0;

	if (*rest == '.')
	{
		Micros unit = SECOND / 10;

		for (rest++; *rest >= '0' && *rest <= '9'; rest++, unit /= 10)
			*when += (*rest - '0') * unit;
	}
	if (strcmp(rest, "Z") == 0)
		return true;
	if ((*rest != '+' && *rest != '-') || sscanf(rest + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2 || rest[1 + used])
		return false;
	*when += (*rest == '+' ? -1 : 1) * (hours * HOUR + minutes * MINUTE);
	return true;
}

bool
time_parse(const char *text, Micros *when)
{
	struct tm parts = {0};
	int used = 0;

	if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &parts.tm_year, &parts.tm_mon, &parts.tm_mday, &parts.tm_hour,
			   &parts.tm_min, &parts.tm_sec, &used) != 6 ||
		used != 19)
		return false;
	if (parts.tm_mon < 1 || parts.tm_mon > 12 || parts.tm_mday < 1 || parts.tm_mday > 31 || parts.tm_hour > 23 ||
		parts.tm_min > 59 || parts.tm_sec > 60)
		return false;
	parts.tm_year -= 1900;
	parts.tm_mon -= 1;
	*when = timegm(&parts) * SECOND;
	return time_parse_rest(text + used, when);
}

typedef struct Event
{
	Micros when;
	uint64_t number; /* keeps events of one moment in their order */
	EventAction action;
	void *subject;
	json_t *detail;
} Event;

static Event *heap;
static size_t heap_count;
static size_t heap_room;
static uint64_t event_number;

static bool
event_before(const Event *a, const Event *b)
{
	return a->when != b->when ? a->when < b->when : a->number < b->number;
}

static void
heap_swap(size_t a, size_t b)
{
	Event kept = heap[a];

	heap[a] = heap[b];
	heap[b] = kept;
}

/* Takes over the reference to detail. */
void
event_at(Micros when, EventAction action, void *subject, json_t *detail)
{
	size_t at = heap_count;

	if (heap_count == heap_room)
	{
		heap_room = heap_room == 0 ? 256 : heap_room * 2;
		heap = realloc(heap, heap_room * sizeof(Event));
		if (heap == NULL)
			abort();
	}
	heap[heap_count++] = (Event){when, event_number++, action, subject, detail};
	for (; at > 0 && event_before(&heap[at], &heap[(at - 1) / 2]); at = (at - 1) / 2)
		heap_swap(at, (at - 1) / 2);
}

static Event
heap_pop(void)
{
	Event first = heap[0];
	size_t at = 0;

	heap[0] = heap[--heap_count];
	for (;;)
	{
		size_t least = at;

		for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < heap_count; child++)
			if (event_before(&heap[child], &heap[least]))
				least = child;
		if (least == at)
			return first;
		heap_swap(at, least);
		at = least;
	}
}

/* Events that these events make wait for the next round, so that long work can be done in portions. */
void
events_run(void)
{
	Micros now = clock_now();
	uint64_t first_new = event_number;

	while (heap_count > 0 && heap[0].when <= now && heap[0].number < first_new)
	{
		Event event = heap_pop();

		event.action(event.subject, event.detail);
		json_decref(event.detail);
	}
}

size_t
events_pending(void)
{
	return heap_count;
}

void
events_clear(void)
{
	for (size_t i = 0; i < heap_count; i++)
		json_decref(heap[i].detail);
	heap_count = 0;
}
