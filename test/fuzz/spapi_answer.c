/*
 * spapi_answer.c
 *	  Answers of Amazon: whatever arrives is judged without a crash, a leak, or a text that the database would refuse.
 */
#include "postgres.h"

#include "answer.h"
#include "spapi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	HttpAnswer *answer = fuzz_answer(data, size);
	SpapiError error;
	char *text;
	double rate;

	spapi_judge(answer, &error);
	fuzz_check_text(error.code, sizeof(error.code));
	fuzz_check_text(error.message, sizeof(error.message));
	fuzz_check_text(error.details, sizeof(error.details));
	fuzz_check_text(error.request_id, sizeof(error.request_id));

	rate = spapi_rate_limit(answer);
	if (!(rate >= 0 && rate <= 1000000))
		abort();
	if (http_answer_date(answer) < 0)
		abort();

	text = spapi_answer_text(answer, &error);
	if (text != NULL && error.code[0] != '\0')
		abort();
	free(text);
	http_answer_free(answer);
	return 0;
}
