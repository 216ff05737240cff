/*
 * http.c
 *	  Concurrent HTTP for one process: curl_multi inside PostgreSQL's wait-event loop.
 *
 * It moves requests and answers and knows nothing of Amazon, of SQL or of retries. What an answer means is spapi.c's
 * affair; how one request is set up and taken down is http_transfer.c's. No transaction is opened here, and interrupts
 * are processed by http_perform only.
 *
 * Life of a transfer:
 *
 *	 free ──http_start──▶ active ──finish, cancel_all──▶ done ──http_next_answer──▶ free
 *
 * (a free one keeps its easy handle for the next request).
 *
 * libcurl watches its sockets through an epoll set of our own, and that one descriptor stands beside the latch and the
 * postmaster's death in a WaitEventSet that lives as long as the pool. libcurl's timer is a deadline in a variable.
 *
 * Three rules hold throughout:
 *	- Nothing throws inside libcurl: its callbacks only note what happened and return the value that aborts.
 *	- Everything libcurl or a callback fills is malloc'd, because palloc throws; each transfer owns what is its own.
 *	- All signals are blocked while libcurl works, since it may start a resolver thread there, and a PostgreSQL signal
 *	  handler must never run in a foreign thread.
 */
#include "postgres.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "lib/ilist.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "errcodes.h"
#include "http.h"
#include "http_transfer.h"

#define DEFAULT_CA_FILE         "/etc/ssl/certs/ca-certificates.crt"
#define DEFAULT_MAX_CONNECTIONS 64
#define MOST_CONNECTIONS        1000
#define DEFAULT_MAX_RESPONSE_KB (32 * 1024)
#define MOST_RESPONSE_KB        (1024 * 1024 - 1)

#define BACKEND_CONNECTIONS 4
#define OWN_DESCRIPTORS     2 /* the epoll set, and one for a resolver at work */

#define EVENTS_AT_ONCE 64

struct HttpPool
{
	CURLM *multi;
	int epoll_fd;
	WaitEventSet *wait_set;
	int epoll_errno;   /* what a socket callback met, reported once libcurl has returned */
	int64 deadline_us; /* when libcurl wants to be called, -1 = never */
	int descriptors;   /* accounted for by AcquireExternalFD */
	int active_count;
	dlist_head active;
	dlist_head done;
	dlist_head free;
	MemoryContextCallback at_end;
};

int http_max_connections = DEFAULT_MAX_CONNECTIONS;
int http_max_response_kb = DEFAULT_MAX_RESPONSE_KB;
char *http_ca_file = NULL;

static bool check_ca_file(char **value, void **extra, GucSource source);
static void destroy_pool(void *arg);
static void finish(HttpPool *pool, HttpTransfer *transfer, CURLcode result, bool cancelled);

/*---------------------------------------------------------------------------------------------------------------
 * Settings
 */

void
http_define_settings(void)
{
	DefineCustomIntVariable("amzmp.max_connections", "Most connections to Amazon that the sender of a database keeps.",
							"Requests beyond it wait for a connection to become free.", &http_max_connections,
							DEFAULT_MAX_CONNECTIONS, 1, MOST_CONNECTIONS, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("amzmp.max_response", "Largest answer that is accepted.",
							"A larger one is cut off and treated as an error. Documents of feeds and reports have their "
							"own limit.",
							&http_max_response_kb, DEFAULT_MAX_RESPONSE_KB, 64, MOST_RESPONSE_KB, PGC_SIGHUP,
							GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomStringVariable("amzmp.ca_file",
							   "File of the certificate authorities that Amazon's servers are checked "
							   "against.",
							   "One file in PEM format; directories of certificates are not read.", &http_ca_file,
							   DEFAULT_CA_FILE, PGC_SIGHUP, 0, check_ca_file, NULL, NULL);
}

static bool
check_ca_file(char **value, void **extra, GucSource source)
{
	if (*value != NULL && is_absolute_path(*value))
		return true;
	GUC_check_errdetail("The path of the file must be absolute.");
	return false;
}

/*---------------------------------------------------------------------------------------------------------------
 * What libcurl calls about sockets and time. Nothing here may throw, and only curl_multi_assign may be called.
 */

static int64
now_us(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

static int
on_timer(CURLM *multi, long timeout_ms, void *arg)
{
	HttpPool *pool = arg;

	pool->deadline_us = timeout_ms < 0 ? -1 : now_us() + (int64) timeout_ms * 1000;
	return 0;
}

/* libcurl wants to watch `fd` for other events. `known` is not NULL when the epoll set has it already. */
static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	HttpPool *pool = arg;
	struct epoll_event event = {0};
	int result;

	if (what == CURL_POLL_REMOVE)
	{
		/* It may be closed already, and then the kernel has dropped it by itself. */
		(void) epoll_ctl(pool->epoll_fd, EPOLL_CTL_DEL, fd, &event);
		curl_multi_assign(pool->multi, fd, NULL);
		return 0;
	}

	event.data.fd = fd;
	event.events = ((what & CURL_POLL_IN) ? EPOLLIN : 0) | ((what & CURL_POLL_OUT) ? EPOLLOUT : 0);
	result = epoll_ctl(pool->epoll_fd, known != NULL ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);

	/* A descriptor that was closed and opened again under the same number is not what we remember of it. */
	if (result < 0 && known != NULL && errno == ENOENT)
		result = epoll_ctl(pool->epoll_fd, EPOLL_CTL_ADD, fd, &event);
	else if (result < 0 && known == NULL && errno == EEXIST)
		result = epoll_ctl(pool->epoll_fd, EPOLL_CTL_MOD, fd, &event);

	if (result < 0)
		pool->epoll_errno = errno;
	else
		curl_multi_assign(pool->multi, fd, pool);
	return 0;
}

/*---------------------------------------------------------------------------------------------------------------
 * The pool
 */

/* Threads that libcurl starts inherit the mask of this moment. */
static void
block_signals(sigset_t *before)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, before);
}

static void
restore_signals(const sigset_t *before)
{
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

/* In the process that uses it and not at load, where the postmaster would run it and every child inherit it. */
static void
init_libcurl(void)
{
	static bool done = false;

	if (done)
		return;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR), errmsg("could not initialize the HTTP library")));
	done = true;
}

static void
acquire_descriptors(HttpPool *pool, int wanted)
{
	while (pool->descriptors < wanted && AcquireExternalFD())
		pool->descriptors++;
}

static void
release_descriptors(HttpPool *pool, int kept)
{
	for (; pool->descriptors > kept; pool->descriptors--)
		ReleaseExternalFD();
}

void
http_pool_resize(HttpPool *pool, int max_connections)
{
	int connections;

	acquire_descriptors(pool, max_connections + OWN_DESCRIPTORS);
	release_descriptors(pool, max_connections + OWN_DESCRIPTORS);
	connections = pool->descriptors - OWN_DESCRIPTORS;
	if (connections < 1)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES), errmsg("too few file descriptors for HTTP connections"),
						errhint("Raise max_files_per_process or lower amzmp.max_connections.")));

	curl_multi_setopt(pool->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) connections);
	curl_multi_setopt(pool->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long) connections);
	curl_multi_setopt(pool->multi, CURLMOPT_MAXCONNECTS, (long) connections);
}

HttpPool *
http_pool_create(MemoryContext lifetime, int max_connections)
{
	HttpPool *pool = MemoryContextAllocZero(lifetime, sizeof(HttpPool));

	init_libcurl();

	dlist_init(&pool->active);
	dlist_init(&pool->done);
	dlist_init(&pool->free);
	pool->deadline_us = -1;
	pool->epoll_fd = -1;

	/* Registered first, so that whatever fails below is undone with the context. */
	pool->at_end.func = destroy_pool;
	pool->at_end.arg = pool;
	MemoryContextRegisterResetCallback(lifetime, &pool->at_end);

	pool->multi = curl_multi_init();
	if (pool->multi == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	curl_multi_setopt(pool->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(pool->multi, CURLMOPT_SOCKETDATA, pool);
	curl_multi_setopt(pool->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(pool->multi, CURLMOPT_TIMERDATA, pool);
	http_pool_resize(pool, max_connections);

	pool->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (pool->epoll_fd < 0)
		ereport(ERROR, (errcode_for_socket_access(), errmsg("could not create an epoll set: %m")));

	pool->wait_set = amzmp_create_wait_event_set(3);
	AddWaitEventToSet(pool->wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(pool->wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(pool->wait_set, WL_SOCKET_READABLE, pool->epoll_fd, NULL, NULL);
	return pool;
}

static void
discard_all(dlist_head *list)
{
	while (!dlist_is_empty(list))
		http_transfer_discard(dlist_container(HttpTransfer, node, dlist_pop_head_node(list)));
}

/* Never throws, may be called twice. The struct itself goes with its memory context. */
static void
destroy_pool(void *arg)
{
	HttpPool *pool = arg;
	sigset_t before;
	dlist_iter iter;

	block_signals(&before);
	dlist_foreach(iter, &pool->active)
		curl_multi_remove_handle(pool->multi, dlist_container(HttpTransfer, node, iter.cur)->easy);
	discard_all(&pool->active);
	discard_all(&pool->done);
	discard_all(&pool->free);
	pool->active_count = 0;
	if (pool->multi != NULL)
		curl_multi_cleanup(pool->multi);
	pool->multi = NULL;
	restore_signals(&before);

	if (pool->wait_set != NULL)
		FreeWaitEventSet(pool->wait_set);
	pool->wait_set = NULL;
	if (pool->epoll_fd >= 0)
		close(pool->epoll_fd);
	pool->epoll_fd = -1;
	release_descriptors(pool, 0);
}

/*---------------------------------------------------------------------------------------------------------------
 * Transfers
 */

static HttpTransfer *
take_free(HttpPool *pool)
{
	if (dlist_is_empty(&pool->free))
		return http_transfer_create();
	return dlist_container(HttpTransfer, node, dlist_pop_head_node(&pool->free));
}

void
http_start(HttpPool *pool, const HttpRequest *request)
{
	CURLU *url = http_parse_url(request->url, request->mail_from != NULL);
	HttpTransfer *transfer = take_free(pool);

	/* From here on the transfer owns the URL. */
	if (transfer == NULL)
		curl_url_cleanup(url);
	else if (!http_transfer_configure(transfer, request, url))
	{
		http_transfer_discard(transfer);
		transfer = NULL;
	}
	if (transfer == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));

	/* Only schedules it: names are resolved and sockets opened when http_wait lets libcurl work. */
	dlist_push_tail(&pool->active, &transfer->node);
	pool->active_count++;
	if (curl_multi_add_handle(pool->multi, transfer->easy) != CURLM_OK)
		finish(pool, transfer, CURLE_FAILED_INIT, false);
}

int
http_in_flight(const HttpPool *pool)
{
	return pool->active_count;
}

/*---------------------------------------------------------------------------------------------------------------
 * Ends
 */

/* active → done. Called outside libcurl's callbacks, signals blocked. */
static void
finish(HttpPool *pool, HttpTransfer *transfer, CURLcode result, bool cancelled)
{
	http_transfer_end(transfer, result, cancelled);
	curl_multi_remove_handle(pool->multi, transfer->easy);
	http_transfer_forget_request(transfer);
	dlist_delete(&transfer->node);
	dlist_push_tail(&pool->done, &transfer->node);
	pool->active_count--;
}

static void
collect_finished(HttpPool *pool)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(pool->multi, &left)) != NULL)
	{
		char *private = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
		finish(pool, (HttpTransfer *) private, message->data.result, false);
	}
}

HttpAnswer *
http_next_answer(HttpPool *pool)
{
	HttpTransfer *transfer;
	HttpAnswer *answer;

	if (dlist_is_empty(&pool->done))
		return NULL;
	transfer = dlist_container(HttpTransfer, node, dlist_pop_head_node(&pool->done));
	answer = transfer->answer;
	transfer->answer = NULL;
	dlist_push_head(&pool->free, &transfer->node);
	return answer;
}

/* Abort all transfers: they come back as HTTP_CANCELLED. */
static void
cancel_all(HttpPool *pool)
{
	sigset_t before;
	dlist_mutable_iter iter;

	block_signals(&before);
	dlist_foreach_modify(iter, &pool->active)
	{
		finish(pool, dlist_container(HttpTransfer, node, iter.cur), CURLE_OK, true);
	}
	restore_signals(&before);
}

/*---------------------------------------------------------------------------------------------------------------
 * Waiting
 */

/* Milliseconds until libcurl wants to be called, rounded up, but no more than `most` (-1 = no bound). */
static long
time_to_wait(HttpPool *pool, long most)
{
	int64 left_us;
	long left_ms;

	if (!dlist_is_empty(&pool->done))
		return 0;
	if (pool->deadline_us < 0)
		return most;
	left_us = pool->deadline_us - now_us();
	left_ms = left_us <= 0 ? 0 : (long) ((left_us + 999) / 1000);
	return most >= 0 && most < left_ms ? most : left_ms;
}

/* libcurl's bits, complete: a socket that has both room and data says so, and an error wakes whoever waits. */
static int
event_bits(uint32 events)
{
	int bits = 0;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		bits |= CURL_CSELECT_IN;
	if (events & (EPOLLOUT | EPOLLERR))
		bits |= CURL_CSELECT_OUT;
	if (events & EPOLLERR)
		bits |= CURL_CSELECT_ERR;
	return bits;
}

static void
serve_sockets(HttpPool *pool)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	int running;
	int count = epoll_wait(pool->epoll_fd, events, EVENTS_AT_ONCE, 0);
	int i;

	for (i = 0; i < count; i++)
		curl_multi_socket_action(pool->multi, events[i].data.fd, event_bits(events[i].events), &running);
}

static void
serve_timer(HttpPool *pool)
{
	int running;

	if (pool->deadline_us < 0 || pool->deadline_us > now_us())
		return;

	/* Cleared first: libcurl sets the next one from inside. */
	pool->deadline_us = -1;
	curl_multi_socket_action(pool->multi, CURL_SOCKET_TIMEOUT, 0, &running);
}

bool
http_wait(HttpPool *pool, long timeout_ms, uint32 wait_event)
{
	WaitEvent events[3];
	int count = WaitEventSetWait(pool->wait_set, time_to_wait(pool, timeout_ms), events, lengthof(events), wait_event);
	bool sockets_ready = false;
	bool latch_set = false;
	sigset_t before;
	int i;

	for (i = 0; i < count; i++)
	{
		latch_set = latch_set || (events[i].events & WL_LATCH_SET) != 0;
		sockets_ready = sockets_ready || (events[i].events & WL_SOCKET_READABLE) != 0;
	}
	if (latch_set)
		ResetLatch(MyLatch);

	block_signals(&before);
	if (sockets_ready)
		serve_sockets(pool);
	serve_timer(pool);
	collect_finished(pool);
	restore_signals(&before);

	if (pool->epoll_errno != 0)
	{
		errno = pool->epoll_errno;
		pool->epoll_errno = 0;
		ereport(ERROR, (errcode_for_socket_access(), errmsg("could not watch a socket: %m")));
	}
	return latch_set;
}

/*---------------------------------------------------------------------------------------------------------------
 * One request from an ordinary backend
 */

static void
drop_all(HttpPool *pool)
{
	HttpAnswer *answer;

	cancel_all(pool);
	while ((answer = http_next_answer(pool)) != NULL)
		http_answer_free(answer);
}

HttpAnswer *
http_perform(const HttpRequest *request)
{
	static HttpPool *pool = NULL;
	HttpAnswer *volatile answer = NULL;

	if (pool == NULL)
		pool = http_pool_create(TopMemoryContext, BACKEND_CONNECTIONS);

	PG_TRY();
	{
		http_start(pool, request);
		while ((answer = http_next_answer(pool)) == NULL)
		{
			CHECK_FOR_INTERRUPTS();
			(void) http_wait(pool, -1, PG_WAIT_EXTENSION);
		}
	}
	PG_CATCH();
	{
		drop_all(pool);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return answer;
}
