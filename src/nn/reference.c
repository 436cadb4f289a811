/* SPDX-License-Identifier: Apache-2.0 */
/* Comparison with a recorded reference: read the entries, run everything the engine has to compute in three batches
 * (logits, greedy decoding, scores), and judge each value. */
#include "sower/reference.h"

#include "nn_impl.h"

#include "sower/alloc.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A prompt of the reference. */
typedef struct entry {
    const sow_json *node;
    char name[48]; /* "rows[17]" */
    sow_ids ids;   /* owned */
} entry;

/* Tokens to score: what follows the first n_context is judged. */
typedef enum judgement { JUDGE_EACH, JUDGE_SUM, JUDGE_MEAN_NLL } judgement;
typedef struct score_job {
    sow_reference_kind part;
    judgement judgement;
    char name[48];
    sow_ids ids; /* owned */
    int64_t n_context;
    const sow_json *expected; /* an array of numbers (JUDGE_EACH) or a number */
} score_job;

typedef struct check {
    const sow_reference_args *args;
    const sow_shape *shape;
    sow_reference_part parts[SOW_N_REFERENCE_KINDS];
    entry *entries; /* owned */
    int64_t n_entries, entries_room;
    score_job *jobs; /* owned */
    int64_t n_jobs, jobs_room;
} check;

sow_tolerances sow_tolerances_default(void)
{
    return (sow_tolerances){.logit = 2e-4, .logprob = 2e-4, .margin = 5e-3};
}

/* Counts one comparison; `deviation` NAN is wrong.  The first wrong value is remembered, until then the largest
 * deviation. */
static void judge(check *c, sow_reference_kind kind, const char *name, int64_t index, double got, double expected,
                  double tolerance)
{
    sow_reference_part *part = &c->parts[kind];
    const double deviation = fabs(got - expected);
    const bool is_wrong = !(deviation <= tolerance);
    if (part->n_wrong == 0 && (is_wrong || deviation >= part->largest)) {
        part->got = got;
        part->expected = expected;
        (void)snprintf(part->where, sizeof part->where, "%s value %lld", name, (long long)index);
    }
    if (kind != SOW_REFERENCE_TOKENS && kind != SOW_REFERENCE_GREEDY && !(deviation <= part->largest))
        part->largest = deviation; /* how far two ids are apart says nothing */
    part->tolerance = tolerance;
    part->n_wrong += is_wrong;
    part->n_values++;
}

static sow_code bad_form(const check *c, const char *name, const char *key, const char *expected)
{
    return SOW_FAIL(SOW_EFORMAT, "%s: %s.%s: expected %s", c->args->what, name, key, expected);
}

/* A number of an array; `key` names it in the message. */
static sow_code number_at(const check *c, const sow_json *array, int64_t i, const char *name, const char *key,
                          double *out)
{
    if (sow_json_to_real(sow_json_at(array, i), out))
        return SOW_OK;
    return bad_form(c, name, key, "an array of numbers, long enough");
}

static sow_code read_ids(const check *c, const sow_json *array, const char *name, const char *key, sow_ids *out)
{
    for (int64_t i = 0; i < sow_json_size(array); i++) {
        int64_t id = 0;
        if (!sow_json_to_int(sow_json_at(array, i), &id) || id < 0 || id >= c->shape->vocab_size)
            return bad_form(c, name, key, "an array of token ids of this model");
        SOW_TRY(sow_ids_add(out, (int32_t)id));
    }
    return SOW_OK;
}

static sow_code encode(const check *c, const char *text, size_t bytes, bool with_special, const char *name,
                       sow_ids *out)
{
    if (c->args->tokenizer == NULL)
        return SOW_FAIL(SOW_EARG, "%s: %s is text, and the model has no tokenizer", c->args->what, name);
    return sow_tokenizer_encode(c->args->tokenizer, text, bytes, with_special, out);
}

/* The tokens of an entry's prompt; where it has ids and text, they are compared. */
static sow_code read_prompt(check *c, entry *e)
{
    size_t bytes = 0;
    const sow_json *ids = sow_json_get(e->node, "ids");
    const char *text = sow_json_to_string(sow_json_get(e->node, "prompt"), &bytes);
    sow_ids encoded = {0};
    sow_code rc = SOW_OK;
    if (text == NULL)
        text = sow_json_to_string(sow_json_get(e->node, "text"), &bytes);
    if (text == NULL && sow_json_size(ids) == 0)
        return bad_form(c, e->name, "ids", "token ids, or a text in 'prompt' or 'text'");
    SOW_TRY(read_ids(c, ids, e->name, "ids", &e->ids));
    if (e->ids.n == 0)
        return encode(c, text, bytes, true, e->name, &e->ids);
    if (text == NULL || c->args->tokenizer == NULL)
        return SOW_OK;
    SOW_TRY_OR(rc, encode(c, text, bytes, true, e->name, &encoded));
    for (int64_t i = 0; i < e->ids.n || i < encoded.n; i++)
        judge(c, SOW_REFERENCE_TOKENS, e->name, i, i < encoded.n ? encoded.ids[i] : -1,
              i < e->ids.n ? e->ids.ids[i] : -1, 0.0);
done:
    sow_ids_fini(&encoded);
    return rc;
}

static sow_code add_entry(check *c, const sow_json *node, const char *key, int64_t index)
{
    SOW_TRY(SOW_GROW(&c->entries, &c->entries_room, c->n_entries));
    entry *e = &c->entries[c->n_entries];
    *e = (entry){.node = node};
    (void)snprintf(e->name, sizeof e->name, index < 0 ? "%s" : "%s[%lld]", key, (long long)index);
    c->n_entries++;
    return read_prompt(c, e);
}

static sow_code read_entries(check *c)
{
    static const char *const lists[] = {"rows", "prompts"};
    const sow_json *logits = sow_json_get(c->args->reference, "logits");
    if (logits != NULL)
        SOW_TRY(add_entry(c, logits, "logits", -1));
    for (size_t l = 0; l < sizeof lists / sizeof *lists; l++) {
        const sow_json *list = sow_json_get(c->args->reference, lists[l]);
        for (int64_t i = 0; i < sow_json_size(list); i++)
            SOW_TRY(add_entry(c, sow_json_at(list, i), lists[l], i));
    }
    return SOW_OK;
}

/* "values" and "top_logits" of every entry. */
static sow_code check_logits(check *c)
{
    float *logits = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(SOW_ALLOC(&logits, c->shape->vocab_size));
    for (int64_t e = 0; e < c->n_entries; e++) {
        const entry *at = &c->entries[e];
        const sow_json *values = sow_json_get(at->node, "values"), *top = sow_json_get(at->node, "top_logits");
        const sow_json *ids = sow_json_get(at->node, "top_ids");
        double expected = 0.0;
        if (values == NULL && top == NULL)
            continue;
        SOW_TRY_OR(
            rc, sow_engine_logits(c->args->engine, c->args->replica, (sow_prompt){at->ids.ids, at->ids.n}, 1, logits));
        for (int64_t i = 0; values != NULL && i < c->shape->vocab_size; i++) {
            SOW_TRY_OR(rc, number_at(c, values, i, at->name, "values", &expected));
            judge(c, SOW_REFERENCE_LOGITS, at->name, i, (double)logits[i], expected, c->args->tolerances.logit);
        }
        for (int64_t i = 0; i < sow_json_size(top); i++) {
            int64_t id = -1;
            SOW_TRY_OR(rc, number_at(c, top, i, at->name, "top_logits", &expected));
            if (!sow_json_to_int(sow_json_at(ids, i), &id) || id < 0 || id >= c->shape->vocab_size)
                SOW_TRY_OR(rc, bad_form(c, at->name, "top_ids", "an id for each of top_logits"));
            judge(c, SOW_REFERENCE_LOGITS, at->name, id, (double)logits[id], expected, c->args->tolerances.logit);
        }
    }
done:
    SOW_FREE(&logits);
    return rc;
}

/* Tokens of one entry, up to the first small margin or the first that differs. */
static sow_code judge_greedy(check *c, const entry *e, const sow_completion *completion)
{
    const sow_json *ids = sow_json_get(e->node, "greedy_ids"), *margins = sow_json_get(e->node, "margins");
    const int64_t n = sow_json_size(ids);
    if (margins != NULL && sow_json_size(margins) < n)
        return bad_form(c, e->name, "margins", "a number for each of greedy_ids");
    for (int64_t i = 0; i < n; i++) {
        int64_t expected = -1, got = i < completion->n ? completion->ids[i] : -1;
        double margin = (double)INFINITY;
        if (margins != NULL)
            SOW_TRY(number_at(c, margins, i, e->name, "margins", &margin));
        if (margin < c->args->tolerances.margin)
            return SOW_OK;
        if (!sow_json_to_int(sow_json_at(ids, i), &expected))
            return bad_form(c, e->name, "greedy_ids", "token ids");
        if (i == completion->n && completion->finish == SOW_FINISH_EOS) /* which of several it was is not kept */
            for (int64_t k = 0; k < c->shape->n_eos; k++)
                got = c->shape->eos[k] == expected ? expected : got;
        judge(c, SOW_REFERENCE_GREEDY, e->name, i, (double)got, (double)expected, 0.0);
        if (got != expected)
            return SOW_OK;
    }
    return SOW_OK;
}

static sow_code check_greedy(check *c)
{
    sow_prompt *prompts = NULL;
    sow_completion *completions = NULL;
    int64_t *owners = NULL, n = 0, max_new = 0;
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, SOW_ALLOC(&prompts, c->n_entries));
    SOW_TRY_OR(rc, SOW_ALLOC(&completions, c->n_entries));
    SOW_TRY_OR(rc, SOW_ALLOC(&owners, c->n_entries));
    for (int64_t e = 0; e < c->n_entries; e++) {
        const int64_t length = sow_json_size(sow_json_get(c->entries[e].node, "greedy_ids"));
        if (length == 0)
            continue;
        prompts[n] = (sow_prompt){c->entries[e].ids.ids, c->entries[e].ids.n};
        owners[n++] = e;
        max_new = length > max_new ? length : max_new;
    }
    if (n > 0)
        SOW_TRY_OR(rc, sow_engine_generate(c->args->engine,
                                           &(sow_generate_args){
                                               .replica = c->args->replica,
                                               .prompts = prompts,
                                               .n_prompts = n,
                                               .max_new = max_new,
                                           },
                                           completions));
    for (int64_t i = 0; i < n; i++)
        SOW_TRY_OR(rc, judge_greedy(c, &c->entries[owners[i]], &completions[i]));
done:
    SOW_FREE(&owners);
    SOW_FREE(&completions);
    SOW_FREE(&prompts);
    return rc;
}

/* A new job with `context` as its context; the tokens to judge are added by the caller. */
static sow_code add_job(check *c, score_job job, const char *name, const sow_ids *context, score_job **out)
{
    SOW_TRY(SOW_GROW(&c->jobs, &c->jobs_room, c->n_jobs));
    score_job *added = &c->jobs[c->n_jobs++];
    *added = job;
    (void)snprintf(added->name, sizeof added->name, "%s", name);
    for (int64_t i = 0; i < context->n; i++)
        SOW_TRY(sow_ids_add(&added->ids, context->ids[i]));
    *out = added;
    return SOW_OK;
}

static sow_code add_entry_jobs(check *c, const entry *e)
{
    const sow_json *nll = sow_json_get(e->node, "mean_nll"), *logprobs = sow_json_get(e->node, "logprobs");
    const sow_json *answer_logprob = sow_json_get(e->node, "answer_logprob");
    score_job *job = NULL;
    size_t bytes = 0;
    if (e->ids.n > 1 && nll != NULL && sow_json_kind_of(nll) != SOW_JSON_NULL)
        SOW_TRY(add_job(c, (score_job){SOW_REFERENCE_MEAN_NLL, JUDGE_MEAN_NLL, .n_context = 1, .expected = nll},
                        e->name, &e->ids, &job));
    if (logprobs != NULL) {
        SOW_TRY(add_job(c, (score_job){SOW_REFERENCE_LOGPROBS, JUDGE_EACH, .n_context = e->ids.n, .expected = logprobs},
                        e->name, &e->ids, &job));
        SOW_TRY(read_ids(c, sow_json_get(e->node, "greedy_ids"), e->name, "greedy_ids", &job->ids));
    }
    if (answer_logprob == NULL)
        return SOW_OK;
    const char *answer = sow_json_to_string(sow_json_get(e->node, "answer"), &bytes);
    if (answer == NULL || c->shape->n_eos == 0)
        return bad_form(c, e->name, "answer", "a text, and a model with an end token");
    SOW_TRY(add_job(c, (score_job){SOW_REFERENCE_ANSWERS, JUDGE_SUM, .n_context = e->ids.n, .expected = answer_logprob},
                    e->name, &e->ids, &job));
    SOW_TRY(encode(c, answer, bytes, false, e->name, &job->ids));
    return sow_ids_add(&job->ids, c->shape->eos[0]);
}

static sow_code add_continuations(check *c)
{
    const sow_json *list = sow_json_get(c->args->reference, "continuations");
    for (int64_t i = 0; i < sow_json_size(list); i++) {
        const sow_json *node = sow_json_at(list, i), *expected = sow_json_get(node, "token_logprobs");
        score_job *job = NULL;
        char name[48];
        (void)snprintf(name, sizeof name, "continuations[%lld]", (long long)i);
        SOW_TRY(add_job(c, (score_job){SOW_REFERENCE_CONTINUATIONS, JUDGE_EACH, .expected = expected}, name,
                        &(sow_ids){0}, &job));
        SOW_TRY(read_ids(c, sow_json_get(node, "context_ids"), name, "context_ids", &job->ids));
        job->n_context = job->ids.n;
        SOW_TRY(read_ids(c, sow_json_get(node, "continuation_ids"), name, "continuation_ids", &job->ids));
        if (job->n_context < 1 || job->n_context == job->ids.n || expected == NULL)
            return bad_form(c, name, "context_ids", "ids, and continuation_ids and token_logprobs");
    }
    return SOW_OK;
}

static sow_code judge_job(check *c, const score_job *job, const float *logprobs)
{
    const int64_t n = job->ids.n - job->n_context;
    const double tolerance = c->args->tolerances.logprob;
    double sum = 0.0, expected = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)logprobs[i];
        if (job->judgement != JUDGE_EACH)
            continue;
        SOW_TRY(number_at(c, job->expected, i, job->name, "logprobs", &expected));
        judge(c, job->part, job->name, i, (double)logprobs[i], expected, tolerance);
    }
    if (job->judgement == JUDGE_EACH)
        return SOW_OK;
    if (!sow_json_to_real(job->expected, &expected))
        return bad_form(c, job->name, c->parts[job->part].name, "a number");
    judge(c, job->part, job->name, 0, job->judgement == JUDGE_SUM ? sum : -sum / (double)n, expected, tolerance);
    return SOW_OK;
}

static sow_code check_scores(check *c)
{
    sow_score_item *items = NULL;
    float *logprobs = NULL;
    int64_t n_ids = 0;
    sow_code rc = SOW_OK;
    for (int64_t e = 0; e < c->n_entries; e++)
        SOW_TRY(add_entry_jobs(c, &c->entries[e]));
    SOW_TRY(add_continuations(c));
    for (int64_t j = 0; j < c->n_jobs; j++)
        n_ids += c->jobs[j].ids.n;
    SOW_TRY_OR(rc, SOW_ALLOC(&items, c->n_jobs));
    SOW_TRY_OR(rc, SOW_ALLOC(&logprobs, n_ids));
    for (int64_t j = 0, at = 0; j < c->n_jobs; at += c->jobs[j].ids.n, j++)
        items[j] = (sow_score_item){.ids = c->jobs[j].ids.ids,
                                    .n = c->jobs[j].ids.n,
                                    .n_context = c->jobs[j].n_context,
                                    .logprobs = logprobs + at};
    SOW_TRY_OR(rc, sow_engine_score(c->args->engine, c->args->replica, items, c->n_jobs));
    for (int64_t j = 0; j < c->n_jobs; j++)
        SOW_TRY_OR(rc, judge_job(c, &c->jobs[j], items[j].logprobs));
done:
    SOW_FREE(&logprobs);
    SOW_FREE(&items);
    return rc;
}

static sow_code report(const check *c, int64_t *out_wrong)
{
    int64_t n_values = 0, n_wrong = 0;
    for (int kind = 0; kind < SOW_N_REFERENCE_KINDS; kind++) {
        n_values += c->parts[kind].n_values;
        n_wrong += c->parts[kind].n_wrong;
        if (c->parts[kind].n_values > 0 && c->args->report != NULL)
            c->args->report(c->args->context, &c->parts[kind]);
    }
    if (n_values == 0)
        return SOW_FAIL(SOW_EFORMAT, "%s: nothing to compare, expected logits, rows, prompts or continuations",
                        c->args->what);
    *out_wrong = n_wrong;
    return SOW_OK;
}

sow_code sow_reference_check(const sow_reference_args *args, int64_t *out_wrong)
{
    static const char *const names[] = {
#define PART(name, text) text,
        SOW_REFERENCE_PARTS(PART)
#undef PART
    };
    check c = {.args = args, .shape = &sow_replica_layout(args->replica)->shape};
    sow_code rc = SOW_OK;
    for (int kind = 0; kind < SOW_N_REFERENCE_KINDS; kind++)
        c.parts[kind].name = names[kind];
    SOW_TRY_OR(rc, read_entries(&c));
    SOW_TRY_OR(rc, check_logits(&c));
    SOW_TRY_OR(rc, check_greedy(&c));
    SOW_TRY_OR(rc, check_scores(&c));
    SOW_TRY_OR(rc, report(&c, out_wrong));
done:
    for (int64_t e = 0; e < c.n_entries; e++)
        sow_ids_fini(&c.entries[e].ids);
    for (int64_t j = 0; j < c.n_jobs; j++)
        sow_ids_fini(&c.jobs[j].ids);
    SOW_FREE(&c.entries);
    SOW_FREE(&c.jobs);
    return rc;
}
