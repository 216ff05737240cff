/*
 * mail.c: a mail server (SMTP) beside the simulated Amazon, for whoever is told by e-mail.
 *
 * It listens on a port of its own, with one thread a connection, and knows EHLO, STARTTLS, AUTH PLAIN and LOGIN, MAIL,
 * RCPT, DATA, RSET, NOOP and QUIT. What it takes it keeps for a test to read; where it was told to fail, it fails. With a
 * certificate it offers STARTTLS, and takes neither a password nor a mail before TLS.
 */
#include "sim.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define LONGEST_LINE 2048
#define LONGEST_MAIL (1024 * 1024)

typedef struct Session
{
	int fd;
	SSL *tls;
	char buffer[LONGEST_LINE];
	size_t used;
	bool known; /* the password was right */
	json_t *mail;
} Session;

static SSL_CTX *context;
static json_t *mails;
static json_t *failures; /* array of {"at", "code", "count"} */
static char *user;
static char *password;
static int listener = -1;

void
mail_reset(void)
{
	json_decref(mails);
	json_decref(failures);
	free(user);
	free(password);
	user = password = NULL;
	mails = json_array();
	failures = json_array();
}

void
mail_expect(const char *wanted_user, const char *wanted_password)
{
	free(user);
	free(password);
	user = wanted_user == NULL ? NULL : xstrdup(wanted_user);
	password = wanted_password == NULL ? NULL : xstrdup(wanted_password);
}

void
mail_fail(const char *at, int64_t code, int64_t count)
{
	json_array_append_new(failures,
						  json_pack("{s:s, s:I, s:I}", "at", at, "code", (json_int_t) code, "count", (json_int_t) count));
}

json_t *
mails_json(void)
{
	return json_pack("{s:I, s:O}", "count", (json_int_t) json_array_size(mails), "mails", mails);
}

/* The code that a step shall fail with, 0 for none; -1: hang up. */
static int
failure_at(const char *step)
{
	size_t i;
	json_t *failure;
	int code = 0;

	pthread_mutex_lock(&state_lock);
	json_array_foreach(failures, i, failure)
	{
		int64_t left = json_get_int(failure, "count", 1);

		if (strcmp(json_get_text(failure, "at"), step) != 0)
			continue;
		code = (int) json_get_int(failure, "code", 451);
		json_object_set_new(failure, "count", json_integer(left - 1));
		if (left <= 1)
			json_array_remove(failures, i);
		break;
	}
	pthread_mutex_unlock(&state_lock);
	return code;
}

static bool
say(Session *session, const char *text)
{
	char *line = xprintf("%s\r\n", text);
	size_t length = strlen(line);
	bool said = session->tls != NULL ? SSL_write(session->tls, line, (int) length) == (int) length
									 : send(session->fd, line, length, MSG_NOSIGNAL) == (ssize_t) length;

	free(line);
	return said;
}

/* One line without its end, false when the other side is gone. */
static bool
hear(Session *session, char line[LONGEST_LINE])
{
	for (;;)
	{
		char *end = memchr(session->buffer, '\n', session->used);
		ssize_t got;

		if (end != NULL)
		{
			size_t length = (size_t) (end - session->buffer) + 1;

			memcpy(line, session->buffer, length);
			line[length - 1] = '\0';
			if (length > 1 && line[length - 2] == '\r')
				line[length - 2] = '\0';
			session->used -= length;
			memmove(session->buffer, session->buffer + length, session->used);
			return true;
		}
		if (session->used == sizeof(session->buffer))
			return false;
		if (session->tls != NULL)
			got = SSL_read(session->tls, session->buffer + session->used, (int) (sizeof(session->buffer) - session->used));
		else
			got = recv(session->fd, session->buffer + session->used, sizeof(session->buffer) - session->used, 0);
		if (got <= 0)
			return false;
		session->used += (size_t) got;
	}
}

static char *
unpack(const char *text, size_t *length)
{
	char *bytes = xalloc(strlen(text) + 4);
	int got = EVP_DecodeBlock((unsigned char *) bytes, (const unsigned char *) text, (int) strlen(text));

	for (size_t i = strlen(text); i > 0 && text[i - 1] == '=' && got > 0; i--)
		got--;
	*length = got < 0 ? 0 : (size_t) got;
	bytes[*length] = '\0';
	return bytes;
}

static bool
is_right(const char *given_user, const char *given_password)
{
	bool right;

	pthread_mutex_lock(&state_lock);
	right = user != NULL && strcmp(user, given_user) == 0 && strcmp(password, given_password) == 0;
	pthread_mutex_unlock(&state_lock);
	return right;
}

static bool
heard_unpacked(Session *session, const char *prompt, char **text)
{
	char line[LONGEST_LINE];
	size_t length;

	if (!say(session, prompt) || !hear(session, line))
		return false;
	*text = unpack(line, &length);
	return true;
}

static bool
authenticate(Session *session, char *how)
{
	char line[LONGEST_LINE];
	char *first = NULL;
	char *second = NULL;
	size_t length;

	if (strncasecmp(how, "LOGIN", 5) == 0)
	{
		if (heard_unpacked(session, "334 VXNlcm5hbWU6", &first) && heard_unpacked(session, "334 UGFzc3dvcmQ6", &second))
			session->known = is_right(first, second);
	}
	else
	{
		const char *packed = how + strcspn(how, " ");

		if (*packed == '\0')
		{
			if (!say(session, "334 ") || !hear(session, line))
				return false;
			packed = line;
		}
		first = unpack(packed + strspn(packed, " "), &length);
		/* NUL user NUL password */
		if (length > 2 && strlen(first) == 0 && strlen(first + 1) + 2 < length)
			session->known = is_right(first + 1, first + strlen(first + 1) + 2);
	}
	free(first);
	free(second);
	return say(session, session->known ? "235 2.7.0 welcome" : "535 5.7.8 user or password is wrong");
}

static bool
start_tls(Session *session)
{
	if (context == NULL || session->tls != NULL)
		return say(session, "454 4.7.0 TLS is not available");
	if (!say(session, "220 2.0.0 go ahead"))
		return false;
	session->used = 0;
	session->tls = SSL_new(context);
	SSL_set_fd(session->tls, session->fd);
	return SSL_accept(session->tls) == 1;
}

static bool
greet(Session *session)
{
	if (!say(session, "250-localhost"))
		return false;
	if (context != NULL && session->tls == NULL)
		return say(session, "250-STARTTLS") && say(session, "250 8BITMIME");
	return say(session, "250-AUTH PLAIN LOGIN") && say(session, "250 8BITMIME");
}

/* "450 4.0.0 not now", or a dead line. */
static bool
refuse_as_told(Session *session, int code)
{
	char text[64];

	if (code < 0)
		return false;
	snprintf(text, sizeof(text), "%d %d.0.0 as you wish", code, code / 100);
	return say(session, text);
}

static bool
may_send(const Session *session)
{
	bool needs;

	pthread_mutex_lock(&state_lock);
	needs = user != NULL;
	pthread_mutex_unlock(&state_lock);
	return (context == NULL || session->tls != NULL) && (!needs || session->known);
}

static void
keep_mail(Session *session, const char *text)
{
	json_object_set_new(session->mail, "text", json_string(text));
	json_object_set_new(session->mail, "tls", json_boolean(session->tls != NULL));
	json_object_set_new(session->mail, "known", json_boolean(session->known));
	pthread_mutex_lock(&state_lock);
	json_array_append_new(mails, session->mail);
	pthread_mutex_unlock(&state_lock);
	session->mail = NULL;
}

/* Lines until one with a dot alone; a leading dot was doubled. */
static bool
take_data(Session *session)
{
	char *text = xalloc(LONGEST_MAIL);
	char line[LONGEST_LINE];
	size_t used = 0;
	bool whole = false;
	int code;

	if (!say(session, "354 go ahead"))
		whole = false;
	else
		while (!whole && hear(session, line))
		{
			whole = strcmp(line, ".") == 0;
			if (!whole && used + strlen(line) + 2 < LONGEST_MAIL)
				used += (size_t) sprintf(text + used, "%s\n", line[0] == '.' ? line + 1 : line);
		}
	if (!whole)
	{
		free(text);
		return false;
	}
	code = failure_at("end");
	if (code <= 0)
		keep_mail(session, text);
	free(text);
	return code != 0 ? refuse_as_told(session, code) : say(session, "250 2.0.0 taken");
}

static char *
address_in(const char *line)
{
	const char *from = strchr(line, '<');

	return from == NULL ? xstrdup("") : strndup(from + 1, strcspn(from + 1, ">"));
}

static bool
note_address(Session *session, const char *step, const char *line)
{
	int code = failure_at(step);
	char *address;

	if (code != 0)
		return refuse_as_told(session, code);
	address = address_in(line);
	if (strcmp(step, "mail") == 0)
	{
		json_decref(session->mail);
		session->mail = json_pack("{s:s, s:[]}", "from", address, "to");
	}
	else
		json_array_append_new(json_object_get(session->mail, "to"), json_string(address));
	free(address);
	return say(session, "250 2.1.0 ok");
}

static bool
obey(Session *session, char *line)
{
	int code;

	if (strncasecmp(line, "EHLO", 4) == 0 || strncasecmp(line, "HELO", 4) == 0)
		return greet(session);
	if (strcasecmp(line, "STARTTLS") == 0)
		return start_tls(session);
	if (strncasecmp(line, "AUTH ", 5) == 0)
		return authenticate(session, line + 5);
	if (strncasecmp(line, "MAIL FROM:", 10) == 0)
		return may_send(session) ? note_address(session, "mail", line) : say(session, "530 5.7.0 who are you");
	if (strncasecmp(line, "RCPT TO:", 8) == 0 && session->mail != NULL)
		return note_address(session, "rcpt", line);
	if (strcasecmp(line, "DATA") == 0 && session->mail != NULL)
	{
		code = failure_at("data");
		return code != 0 ? refuse_as_told(session, code) : take_data(session);
	}
	if (strcasecmp(line, "NOOP") == 0 || strcasecmp(line, "RSET") == 0)
		return say(session, "250 2.0.0 ok");
	if (strcasecmp(line, "QUIT") == 0)
	{
		say(session, "221 2.0.0 bye");
		return false;
	}
	return say(session, "502 5.5.1 not known");
}

static void *
serve(void *arg)
{
	Session *session = arg;
	char line[LONGEST_LINE];
	int code = failure_at("connect");

	if (code != 0)
		refuse_as_told(session, code);
	else if (say(session, "220 localhost ESMTP"))
		while (hear(session, line) && obey(session, line))
			;
	if (session->tls != NULL)
	{
		SSL_shutdown(session->tls);
		SSL_free(session->tls);
	}
	ERR_clear_error();
	close(session->fd);
	json_decref(session->mail);
	free(session);
	return NULL;
}

static void *
accept_all(void *arg)
{
	(void) arg;
	for (;;)
	{
		struct timeval patience = {60, 0};
		int fd = accept(listener, NULL, NULL);
		Session *session;
		pthread_t thread;

		if (fd < 0)
			return NULL;
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		session = xalloc(sizeof(Session));
		session->fd = fd;
		if (pthread_create(&thread, NULL, serve, session) != 0)
			abort();
		pthread_detach(thread);
	}
}

/* Listens on a port that the system chooses, and returns it; -1 when it cannot. */
int
mail_start(const char *certificate, const char *key)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	pthread_t thread;

	if (certificate != NULL)
	{
		context = SSL_CTX_new(TLS_server_method());
		if (context == NULL || SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
			SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
			return -1;
	}
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		listen(listener, 64) != 0 || getsockname(listener, (struct sockaddr *) &address, &length) != 0 ||
		pthread_create(&thread, NULL, accept_all, NULL) != 0)
		return -1;
	pthread_detach(thread);
	return ntohs(address.sin_port);
}
