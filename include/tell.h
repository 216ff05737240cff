/*
 * tell.h
 *	  Telling people: webhooks and mail, how one is built and how its answer is judged.
 *
 * Functions over strings and answers, like spapi.h: no SQL, no network.
 */
#ifndef AMZMP_TELL_H
#define AMZMP_TELL_H

#include "http.h"
#include "spapi.h"

/*
 * Fill `request` (palloc'd) from what amzmp._render_webhook or amzmp._render_mail made of a delivery; a webhook is signed
 * here. Wiped by spapi_forget; `rendered` is wiped here.
 */
extern void tell_build(char *rendered, HttpRequest *request);

/* The code of `error` is TemporaryFailure where trying again much later may help. */
extern SpapiVerdict tell_judge(const HttpAnswer *answer, bool is_mail, SpapiError *error);

#endif
