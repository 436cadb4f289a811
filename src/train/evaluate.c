/* SPDX-License-Identifier: Apache-2.0 */
#include "evaluate_impl.h"

#include "sower/alloc.h"
#include "sower/chat.h"
#include "sower/phase.h"

#include <math.h>
#include <string.h>

static const double reward_limit = 0x1p20; /* a sum of 2^11 rewards of this size still fits 64 bits */

sow_code sow_evaluator_create(const sow_evaluator_args *args, sow_evaluator **out)
{
    sow_evaluator *e = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(SOW_ALLOC(&e, 1));
    e->args = *args;
    e->key = -1;
    SOW_TRY_OR(rc, sow_tokenizer_parse(args->tokenizer_json, args->tokenizer_bytes, "tokenizer.json", &e->tokenizer));
    if (sow_tokenizer_size(e->tokenizer) > args->layout->shape.vocab_size) {
        rc = SOW_FAIL(SOW_EFORMAT, "tokenizer.json: has %lld ids, expected at most the model's vocab_size %lld",
                      (long long)sow_tokenizer_size(e->tokenizer), (long long)args->layout->shape.vocab_size);
        goto done;
    }
    SOW_TRY_OR(rc, sow_engine_create(args->la, args->layout, args->batch, &e->engine));
    SOW_TRY_OR(rc, sow_replica_create(args->la, args->layout, args->type, &e->replica));
done:
    if (rc != SOW_OK)
        sow_evaluator_destroy(&e);
    else
        *out = e;
    return rc;
}

void sow_evaluator_destroy(sow_evaluator **evaluator)
{
    sow_evaluator *e = *evaluator;
    if (e == NULL)
        return;
    for (int i = 0; i < e->n_jobs; i++)
        sow_task_close(&e->jobs[i].task);
    sow_engine_destroy(&e->engine);
    sow_replica_destroy(&e->replica);
    sow_replica_destroy(&e->base);
    SOW_FREE(&e->k3);
    sow_tokenizer_destroy(&e->tokenizer);
    sow_words_fini(&e->text);
    sow_words_fini(&e->wrapped);
    sow_words_fini(&e->completion);
    sow_ids_fini(&e->ids);
    SOW_FREE(&e->starts);
    SOW_FREE(&e->prompts);
    SOW_FREE(&e->answers);
    sow_evaluator_score_fini(e);
    SOW_FREE(evaluator);
}

sow_code sow_evaluator_add(sow_evaluator *e, sow_task *task, int64_t max_new, int *number)
{
    SOW_ASSERT(e->n_jobs < SOW_MAX_JOBS);
    e->jobs[e->n_jobs] = (sow_job){
        .task = task, .max_new = max_new > 0 ? max_new : sow_task_max_new(task), .is_text = sow_task_is_text(task)};
    *number = e->n_jobs++;
    return SOW_OK;
}

static const sow_job *job_of(const sow_evaluator *e, int number)
{
    number &= ~SOW_JOB_LIKELIHOOD;
    SOW_ASSERT(number >= 0 && number < e->n_jobs);
    return &e->jobs[number];
}

sow_code sow_evaluator_mix(sow_evaluator *e, int first, int64_t n, int *number)
{
    sow_job mix = {.mix_first = first, .n_mixed = (int)n};
    SOW_ASSERT(e->n_jobs < SOW_MAX_JOBS && n > 0 && first >= 0 && first + n <= e->n_jobs);
    for (int64_t i = 0; i < n; i++) {
        const sow_job *part = &e->jobs[first + i];
        SOW_ASSERT(part->task != NULL && !sow_task_has_choices(part->task));
        mix.max_new = part->max_new > mix.max_new ? part->max_new : mix.max_new;
    }
    e->jobs[e->n_jobs] = mix;
    *number = e->n_jobs++;
    return SOW_OK;
}

/* The job that a row of a mix stands for, and its row there. */
static const sow_job *part_of(const sow_evaluator *e, const sow_job *j, int64_t *row)
{
    if (j->task != NULL)
        return j;
    const sow_job *part = &e->jobs[j->mix_first + (int)(*row % j->n_mixed)];
    *row /= j->n_mixed;
    return part;
}

sow_task *sow_evaluator_task(sow_evaluator *e, int number)
{
    return job_of(e, number)->task;
}

int64_t sow_evaluator_max_new(const sow_evaluator *e, int number)
{
    return job_of(e, number)->max_new;
}

sow_tokenizer *sow_evaluator_tokenizer(sow_evaluator *e)
{
    return e->tokenizer;
}

sow_engine *sow_evaluator_engine(sow_evaluator *e)
{
    return e->engine;
}

const sow_replica *sow_evaluator_replica(const sow_evaluator *e)
{
    return e->replica;
}

bool sow_evaluator_holds(const sow_evaluator *e, int64_t key)
{
    return key >= 0 && e->key == key;
}

sow_code sow_evaluator_weights(sow_evaluator *e, int64_t key, const float *theta, const sow_tensor_noise *noise)
{
    if (sow_evaluator_holds(e, key))
        return SOW_OK;
    e->key = -1;
    sow_phase_enter(SOW_PHASE_PERTURB);
    SOW_TRY(sow_replica_make(e->replica, theta, noise));
    e->key = key;
    return SOW_OK;
}

sow_code sow_evaluator_row_ids(const sow_evaluator *e, int number, int64_t row, sow_ids *out, int64_t *n_prompt,
                               bool *has)
{
    const sow_task *task = job_of(e, number)->task;
    const int32_t *ids = NULL;
    char place[SOW_TASK_PLACE_BYTES];
    int64_t n = 0, vocab = e->args.layout->shape.vocab_size;
    SOW_TRY(sow_task_ids(task, row, &ids, &n, n_prompt, has));
    for (int64_t i = 0; *has && i < n; i++) {
        if (ids[i] >= vocab)
            return SOW_FAIL(SOW_EFORMAT, "%s: token %d is outside the model's vocabulary of %lld",
                            sow_task_place(task, row, place), (int)ids[i], (long long)vocab);
        SOW_TRY(sow_ids_add(out, ids[i]));
    }
    return SOW_OK;
}

/* A row of tokens: its prompt; *has false: it is text. */
static sow_code encode_tokens(sow_evaluator *e, const sow_job *j, int64_t row, bool *has)
{
    int64_t before = e->ids.n, n_prompt = 0;
    SOW_TRY(sow_evaluator_row_ids(e, (int)(j - e->jobs), row, &e->ids, &n_prompt, has));
    if (*has)
        e->ids.n = before + n_prompt;
    return SOW_OK;
}

static sow_code encode_text(sow_evaluator *e, const sow_job *j, int64_t row)
{
    const sow_words *text = &e->text;
    sow_words_clear(&e->text);
    SOW_TRY(sow_task_prompt(j->task, row, &e->text));
    if (e->args.chat != NULL) {
        sow_words_clear(&e->wrapped);
        SOW_TRY(sow_chat_wrap(e->args.chat, NULL, e->text.text, e->text.bytes, &e->wrapped));
        text = &e->wrapped;
    }
    return sow_tokenizer_encode(e->tokenizer, text->text, text->bytes, true, &e->ids);
}

/* Appends the ids of a row's prompt: template, then chat format, then the tokenizer with what its post-processor adds.
 * */
sow_code sow_evaluator_encode(sow_evaluator *e, const sow_job *j, int64_t row)
{
    int64_t before = e->ids.n;
    char place[SOW_TASK_PLACE_BYTES];
    bool has = false;
    SOW_TRY(encode_tokens(e, j, row, &has));
    if (!has)
        SOW_TRY(encode_text(e, j, row));
    int64_t n = e->ids.n - before, room = e->args.layout->shape.max_positions;
    if (n < 1 || n >= room)
        return SOW_FAIL(SOW_EFORMAT, "%s: the prompt has %lld tokens, expected 1 to %lld",
                        sow_task_place(j->task, row, place), (long long)n, (long long)room - 1);
    return SOW_OK;
}

sow_code sow_evaluator_prompt_tokens(sow_evaluator *e, int number, int64_t row, int64_t *out)
{
    e->ids.n = 0;
    const sow_job *j = part_of(e, job_of(e, number), &row);
    SOW_TRY(sow_evaluator_encode(e, j, row));
    *out = e->ids.n;
    return SOW_OK;
}

sow_code sow_evaluator_prompt(sow_evaluator *e, int number, int64_t row, sow_ids *out)
{
    e->ids.n = 0;
    SOW_TRY(sow_evaluator_encode(e, &e->jobs[number], row));
    for (int64_t i = 0; i < e->ids.n; i++)
        SOW_TRY(sow_ids_add(out, e->ids.ids[i]));
    return SOW_OK;
}

sow_code sow_evaluator_check(sow_evaluator *e, int number)
{
    const sow_job *j = job_of(e, number);
    if (j->task == NULL) /* a mix: its parts are jobs themselves */
        return SOW_OK;
    int64_t n = sow_task_options_of(j->task)->file[0] == '\0' ? 1 : sow_task_rows(j->task);
    for (int64_t row = 0; row < n; row++) {
        e->ids.n = 0;
        SOW_TRY(sow_task_has_choices(j->task) ? sow_evaluator_check_choices(e, j, row)
                                              : sow_evaluator_encode(e, j, row));
        sow_phase_tick();
    }
    return SOW_OK;
}

int sow_evaluator_jobs(const sow_evaluator *e)
{
    return e->n_jobs;
}

/* rows NULL: 0 .. n-1. */
static sow_code encode_rows(sow_evaluator *e, const sow_job *j, const int64_t *rows, int64_t n)
{
    SOW_TRY(SOW_GROW(&e->starts, &e->starts_capacity, n + 1));
    SOW_TRY(SOW_GROW(&e->prompts, &e->prompts_capacity, n));
    SOW_TRY(SOW_GROW(&e->answers, &e->answers_capacity, n));
    e->ids.n = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t row = rows == NULL ? i : rows[i];
        const sow_job *part = part_of(e, j, &row);
        e->starts[i] = e->ids.n;
        SOW_TRY(sow_evaluator_encode(e, part, row));
    }
    e->starts[n] = e->ids.n;
    for (int64_t i = 0; i < n; i++)
        e->prompts[i] = (sow_prompt){.ids = e->ids.ids + e->starts[i], .n = e->starts[i + 1] - e->starts[i]};
    return SOW_OK;
}

sow_code sow_evaluator_encode_first(sow_evaluator *e, int number, int64_t n)
{
    return encode_rows(e, job_of(e, number), NULL, n);
}

/* The text of a completion, cut before the stop string. */
static sow_code decode_answer(sow_evaluator *e, const sow_completion *answer)
{
    sow_words_clear(&e->completion);
    SOW_TRY(sow_words_add(&e->completion, "", 0));
    SOW_TRY(sow_tokenizer_decode(e->tokenizer, answer->ids, answer->n, true, &e->completion));
    const char *stop = e->args.stop == NULL ? NULL : strstr(e->completion.text, e->args.stop);
    if (stop != NULL) {
        e->completion.bytes = (size_t)(stop - e->completion.text);
        e->completion.text[e->completion.bytes] = '\0';
    }
    return SOW_OK;
}

sow_code sow_evaluator_grade(sow_evaluator *e, int number, int64_t row, const sow_completion *completion,
                             sow_grade *out)
{
    SOW_TRY(decode_answer(e, completion));
    return sow_task_grade(e->jobs[number].task, row, e->completion.text, e->completion.bytes, out);
}

sow_code sow_evaluator_count(const sow_job *j, int64_t row, int64_t i, const sow_grade *grade, sow_tally *out)
{
    if (!(fabs(grade->reward) <= reward_limit))
        return SOW_FAIL(SOW_ENUM, "task %s, row %lld: the reward %g is not a number of at most %g in size",
                        sow_task_kind_of(j->task)->name, (long long)row, grade->reward, reward_limit);
    out->rows++;
    out->reward += llrint(grade->reward * 0x1p32);
    out->correct += grade->is_correct;
    if (grade->is_correct && i < SOW_RIGHT_BITS)
        out->right |= UINT32_C(1) << i;
    out->squares += grade->reward * grade->reward;
    for (int k = 0; k < SOW_MAX_PARTS; k++)
        out->parts[k] += llrint(grade->parts[k] * SOW_PART_SCALE);
    return SOW_OK;
}

sow_code sow_evaluator_tell(sow_evaluator *e, const sow_job *j, sow_answer_each each, void *context, sow_answer *answer)
{
    sow_words_clear(&e->text);
    SOW_TRY(sow_task_prompt(j->task, answer->row, &e->text));
    answer->prompt = e->text.text;
    answer->prompt_bytes = e->text.bytes;
    return each(context, answer);
}

/* Who asks for answers, and what it wants of them. */
typedef struct asking {
    sow_answer_each each; /* may be NULL */
    void *context;
    double kl_beta;
} asking;

static sow_code grade_answer(sow_evaluator *e, const sow_job *j, int64_t row, int64_t i, const asking *a,
                             sow_tally *out)
{
    const sow_completion *answer = &e->answers[i];
    sow_answer told = {.row = row, .tokens = answer};
    SOW_TRY(decode_answer(e, answer));
    told.completion = e->completion.text;
    told.completion_bytes = e->completion.bytes;
    SOW_TRY(sow_task_grade(j->task, row, told.completion, told.completion_bytes, &told.grade));
    if (a->kl_beta > 0) {
        told.grade.reward -= a->kl_beta * e->k3[i];
        out->kl += e->k3[i];
    }
    SOW_TRY(sow_evaluator_count(j, row, i, &told.grade, out));
    out->new_tokens += answer->n_sampled;
    return a->each == NULL ? SOW_OK : sow_evaluator_tell(e, j, a->each, a->context, &told);
}

static sow_code generate(sow_evaluator *e, const sow_job *j, const int64_t *rows, int64_t n, const asking *a,
                         sow_tally *out)
{
    SOW_TRY(encode_rows(e, j, rows, n));
    out->prompt_tokens = e->ids.n;
    SOW_TRY(sow_engine_generate(e->engine,
                                &(sow_generate_args){.replica = e->replica,
                                                     .prompts = e->prompts,
                                                     .n_prompts = n,
                                                     .max_new = j->max_new,
                                                     .want_logprobs = a->kl_beta > 0,
                                                     .stop = e->args.stop,
                                                     .tokenizer = e->tokenizer},
                                e->answers));
    if (a->kl_beta > 0)
        SOW_TRY(sow_evaluator_measure_k3(e, n));
    sow_phase_enter(SOW_PHASE_GRADE);
    for (int64_t i = 0; i < n; i++) {
        int64_t row = rows[i];
        const sow_job *part = part_of(e, j, &row);
        SOW_TRY(grade_answer(e, part, row, i, a, out));
    }
    return SOW_OK;
}

sow_code sow_evaluator_run(sow_evaluator *e, int number, const int64_t *rows, int64_t n, sow_answer_each each,
                           void *context, sow_tally *out)
{
    const sow_job *j = job_of(e, number);
    sow_tally tally = {0};
    if ((number & SOW_JOB_LIKELIHOOD) != 0)
        SOW_TRY(sow_evaluator_likelihood(e, j, rows, n, false, &tally));
    else if (j->task != NULL && !j->is_text)
        SOW_TRY(sow_evaluator_likelihood(e, j, rows, n, true, &tally));
    else if (j->task != NULL && sow_task_has_choices(j->task))
        SOW_TRY(sow_evaluator_choose(e, j, rows, n, each, context, &tally));
    else
        SOW_TRY(generate(e, j, rows, n, &(asking){.each = each, .context = context}, &tally));
    *out = tally;
    return SOW_OK;
}

sow_code sow_evaluator_run_member(sow_evaluator *e, int number, const int64_t *rows, int64_t n, double kl_beta,
                                  sow_tally *out)
{
    const sow_job *j = job_of(e, number);
    sow_tally tally = {0};
    if (kl_beta == 0)
        return sow_evaluator_run(e, number, rows, n, NULL, NULL, out);
    SOW_ASSERT(e->base != NULL && (j->task == NULL || !sow_task_has_choices(j->task)));
    SOW_TRY(generate(e, j, rows, n, &(asking){.kl_beta = kl_beta}, &tally));
    *out = tally;
    return SOW_OK;
}

void sow_tally_add(sow_tally *to, const sow_tally *from)
{
    to->rows += from->rows;
    to->reward += from->reward;
    to->correct += from->correct;
    to->new_tokens += from->new_tokens;
    to->prompt_tokens += from->prompt_tokens;
    to->squares += from->squares;
    to->kl += from->kl;
    for (int i = 0; i < SOW_MAX_PARTS; i++)
        to->parts[i] += from->parts[i];
}

double sow_tally_mean_reward(const sow_tally *tally)
{
    return tally->rows == 0 ? 0 : (double)tally->reward / 0x1p32 / (double)tally->rows;
}

void sow_tally_reward_interval(const sow_tally *tally, double *low, double *high)
{
    double n = (double)tally->rows, mean = sow_tally_mean_reward(tally);
    double variance = n > 1 ? (tally->squares - n * mean * mean) / (n - 1) : 0;
    double half = n > 0 ? 1.96 * sqrt(fmax(variance, 0) / n) : 0;
    *low = mean - half;
    *high = mean + half;
}
