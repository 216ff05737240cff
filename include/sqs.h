/*
 * sqs.h
 *	  Calls of Amazon SQS, in its JSON protocol: how one is built and how its answer is judged.
 *
 * Functions over strings and answers, like spapi.h: no SQL, no network.
 */
#ifndef AMZMP_SQS_H
#define AMZMP_SQS_H

#include "http.h"
#include "spapi.h"

/*
 * Fill `request` (palloc'd) from what amzmp._render_queue made of a claimed request: region, action, payload and the AWS
 * key pair, which libcurl signs with. Wiped by spapi_forget; `rendered` is wiped here.
 */
extern void sqs_build(const char *url, char *rendered, HttpRequest *request);

/* Keys that are refused stay refused until somebody mends them, so nothing here asks for another token. */
extern SpapiVerdict sqs_judge(const HttpAnswer *answer, SpapiError *error);

#endif
