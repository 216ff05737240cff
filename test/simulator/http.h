/* http.h: starting and stopping the server, and gzip for whoever serves packed documents. */
#ifndef SIM_HTTP_H
#define SIM_HTTP_H

#include <netinet/in.h>
#include <stddef.h>

int http_start(const struct sockaddr_in *address, const char *certificate, const char *key, unsigned threads);
void http_stop(void);
char *gzip_bytes(const void *data, size_t length, size_t *packed_length);

#endif
