/*
 * main.c: command line, start, stop.
 *
 * The simulator listens on 127.0.0.1 only and runs until SIGTERM or SIGINT. The port file appears, complete, when it
 * is ready to answer.
 */
#include "sim.h"
#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Arguments
{
	const char *port_file;
	const char *pid_file;
	const char *mail_port_file;
	const char *mail_certificate;
	const char *mail_key;
	const char *certificate;
	const char *key;
	unsigned threads;
	double time_scale;
} Arguments;

static const char usage[] = "amzmp-simulator: a stand-in for Amazon's Selling Partner API, on 127.0.0.1\n"
							"  --port N           listen on this port; 0 (the default) chooses one\n"
							"  --port-file FILE   write the port there when ready\n"
							"  --pid-file FILE    write the process id there\n"
							"  --seed N           seed of everything that is random (default 1)\n"
							"  --time-scale X     how fast virtual time runs (default 1)\n"
							"  --rate-scale X     multiplies every usage plan; 0 switches them off (default 1)\n"
							"  --verdict-delay S  virtual seconds until a listing's verdict (default 2)\n"
							"  --threads N        threads that serve (default 2)\n"
							"  --mail-port-file F listen for mail too (SMTP), and write that port there\n"
							"  --mail-cert FILE   offer STARTTLS with this certificate chain (PEM)\n"
							"  --mail-key FILE    and this private key (PEM)\n"
							"  --tls-cert FILE    serve HTTPS with this certificate chain (PEM)\n"
							"  --tls-key FILE     and this private key (PEM)\n";

static void
die(const char *what, const char *detail)
{
	fprintf(stderr, "amzmp-simulator: %s: %s\n", what, detail);
	exit(1);
}

static char *
read_file(const char *name)
{
	FILE *file = fopen(name, "r");
	char *text = xalloc(65536);

	if (file == NULL)
		die(name, strerror(errno));
	if (fread(text, 1, 65535, file) == 0)
		die(name, "empty");
	fclose(file);
	return text;
}

/* Written aside and renamed, so that a reader never sees half of it. */
static void
write_number_file(const char *name, long number)
{
	char *aside;
	FILE *file;

	if (name == NULL)
		return;
	aside = xprintf("%s.new", name);
	file = fopen(aside, "w");
	if (file == NULL || fprintf(file, "%ld\n", number) < 0 || fclose(file) != 0 || rename(aside, name) != 0)
		die(name, strerror(errno));
	free(aside);
}

static double
number(const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end != '\0' || value < 0)
		die("not a number", text);
	return value;
}

static void
read_arguments(int argc, char **argv, Arguments *arguments)
{
	static const struct option options[] = {
		{"port", required_argument, NULL, 'p'},
		{"port-file", required_argument, NULL, 'f'},
		{"pid-file", required_argument, NULL, 'i'},
		{"seed", required_argument, NULL, 's'},
		{"time-scale", required_argument, NULL, 't'},
		{"rate-scale", required_argument, NULL, 'r'},
		{"verdict-delay", required_argument, NULL, 'v'},
		{"threads", required_argument, NULL, 'n'},
		{"tls-cert", required_argument, NULL, 'c'},
		{"tls-key", required_argument, NULL, 'k'},
		{"mail-port-file", required_argument, NULL, 'm'},
		{"mail-cert", required_argument, NULL, 'x'},
		{"mail-key", required_argument, NULL, 'y'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1)
	{
		switch (option)
		{
			case 'p':
				settings.port = (int) number(optarg);
				break;
			case 'f':
				arguments->port_file = optarg;
				break;
			case 'i':
				arguments->pid_file = optarg;
				break;
			case 's':
				settings.seed = (uint64_t) number(optarg);
				break;
			case 't':
				arguments->time_scale = number(optarg);
				break;
			case 'r':
				settings.rate_scale = number(optarg);
				break;
			case 'v':
				settings.verdict_delay = number(optarg);
				break;
			case 'n':
				arguments->threads = (unsigned) number(optarg);
				break;
			case 'c':
				arguments->certificate = read_file(optarg);
				break;
			case 'k':
				arguments->key = read_file(optarg);
				break;
			case 'm':
				arguments->mail_port_file = optarg;
				break;
			case 'x':
				arguments->mail_certificate = optarg;
				break;
			case 'y':
				arguments->mail_key = optarg;
				break;
			default:
				fputs(usage, option == 'h' ? stdout : stderr);
				exit(option == 'h' ? 0 : 2);
		}
	}
	if (optind < argc)
		die("unexpected argument", argv[optind]);
	if ((arguments->certificate == NULL) != (arguments->key == NULL))
		die("--tls-cert and --tls-key", "give both or none");
}

/* Runs due events even when nobody asks anything, so that a feed goes on and a notification is sent in time. */
static void
run_until_signal(const sigset_t *signals)
{
	const struct timespec pause = {0, 20 * 1000 * 1000};

	while (sigtimedwait(signals, NULL, &pause) < 0)
	{
		pthread_mutex_lock(&state_lock);
		events_run();
		pthread_mutex_unlock(&state_lock);
	}
}

int
main(int argc, char **argv)
{
	Arguments arguments = {.time_scale = 1, .threads = 2};
	struct sockaddr_in address = {.sin_family = AF_INET};
	sigset_t signals;

	settings = (Settings){.rate_scale = 1,
						  .forgiven = 1,
						  .verdict_delay = 2,
						  .order_lag = 120,
						  .finance_lag = 5,
						  .strict_user_agent = true,
						  .strict_ship_date = true,
						  .seed = 1,
						  .scheme = "http"};
	read_arguments(argc, argv, &arguments);
	if (arguments.certificate != NULL)
		settings.scheme = "https";
	random_seed(settings.seed);
	clock_reset(arguments.time_scale);
	sellers_reset();
	documents_reset();
	product_types_reset();
	notifications_reset();
	queues_reset();
	hooks_reset();
	mail_reset();
	orders_reset();
	lwa_reset();
	rate_reset();

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	sigdelset(&signals, SIGPIPE);

	address.sin_port = htons((uint16_t) settings.port);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	settings.port = http_start(&address, arguments.certificate, arguments.key, arguments.threads);
	if (settings.port <= 0)
		die("cannot listen", strerror(errno));
	if (arguments.mail_port_file != NULL)
	{
		int port = mail_start(arguments.mail_certificate, arguments.mail_key);

		if (port <= 0)
			die("cannot listen for mail", strerror(errno));
		write_number_file(arguments.mail_port_file, port);
	}
	write_number_file(arguments.pid_file, (long) getpid());
	write_number_file(arguments.port_file, settings.port);
	run_until_signal(&signals);
	http_stop();
	if (arguments.port_file != NULL)
		unlink(arguments.port_file);
	if (arguments.pid_file != NULL)
		unlink(arguments.pid_file);
	return 0;
}
