/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/kl.h"

#include "sower/alloc.h"
#include "sower/json.h"

#include <math.h>

/* log(sum exp(x)) in double. */
static double log_sum(const float *x, int64_t n)
{
    double max = (double)x[0], sum = 0;
    for (int64_t i = 1; i < n; i++)
        max = fmax(max, (double)x[i]);
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)x[i] - max);
    return max + log(sum);
}

sow_kl_row sow_kl_of_logits(const float *base, const float *tuned, int64_t n, int32_t id)
{
    double base_sum = log_sum(base, n), tuned_sum = log_sum(tuned, n);
    sow_kl_row row = {0};
    for (int64_t i = 0; i < n; i++) {
        double b = (double)base[i] - base_sum, t = (double)tuned[i] - tuned_sum;
        row.exact += exp(b) * (b - t);
        row.reverse += exp(t) * (t - b);
    }
    row.exact = fmax(row.exact, 0); /* rounding may leave -1e-17 */
    row.reverse = fmax(row.reverse, 0);
    row.token = (double)base[id] - base_sum - ((double)tuned[id] - tuned_sum);
    return row;
}

void sow_sequences_fini(sow_sequences *s)
{
    SOW_FREE(&s->ids);
    SOW_FREE(&s->starts);
    SOW_FREE(&s->n_prompt);
    *s = (sow_sequences){0};
}

static sow_code add_ids(sow_sequences *s, const int32_t *ids, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        SOW_TRY(SOW_GROW(&s->ids, &s->ids_capacity, s->n_ids));
        s->ids[s->n_ids++] = ids[i];
    }
    return SOW_OK;
}

/* The greedy continuation of every prompt by a model. */
static sow_code continue_prompts(const sow_kl_args *a, const sow_replica *replica, sow_sequences *out)
{
    sow_completion *answers = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(SOW_ALLOC(&answers, a->n_prompts));
    SOW_TRY_OR(rc, sow_engine_generate(a->engine,
                                       &(sow_generate_args){.replica = replica,
                                                            .prompts = a->prompts,
                                                            .n_prompts = a->n_prompts,
                                                            .max_new = a->max_new,
                                                            .stop = a->stop,
                                                            .tokenizer = a->tokenizer},
                                       answers));
    SOW_TRY_OR(rc, SOW_GROW(&out->starts, &out->starts_capacity, a->n_prompts));
    SOW_TRY_OR(rc, SOW_GROW(&out->n_prompt, &out->prompt_capacity, a->n_prompts));
    for (int64_t i = 0; i < a->n_prompts; i++) {
        const sow_completion *answer = &answers[i];
        out->n_prompt[i] = a->prompts[i].n;
        SOW_TRY_OR(rc, add_ids(out, a->prompts[i].ids, a->prompts[i].n));
        SOW_TRY_OR(rc, add_ids(out, answer->ids, answer->n));
        SOW_TRY_OR(rc, add_ids(out, &answer->end, answer->n_sampled - answer->n));
        out->starts[i + 1] = out->n_ids;
    }
    out->n = a->n_prompts;
done:
    SOW_FREE(&answers);
    return rc;
}

/* Log-probabilities of all continuations' tokens: out [s->n_ids], a sequence's from its start on. */
static sow_code score(const sow_kl_args *a, const sow_replica *replica, const sow_sequences *s, sow_score_item *items,
                      float *out)
{
    for (int64_t i = 0; i < s->n; i++)
        items[i] = (sow_score_item){.ids = s->ids + s->starts[i],
                                    .n = s->starts[i + 1] - s->starts[i],
                                    .n_context = s->n_prompt[i],
                                    .logprobs = out + s->starts[i]};
    return sow_engine_score(a->engine, replica, items, s->n);
}

static double mean_length(const sow_sequences *s)
{
    int64_t sum = s->n_ids;
    for (int64_t i = 0; i < s->n; i++)
        sum -= s->n_prompt[i];
    return (double)sum / (double)s->n;
}

static sow_code measure_sampled(const sow_kl_args *a, sow_kl *out)
{
    sow_sequences s = {0};
    sow_score_item *items = NULL;
    float *tuned = NULL, *base = NULL;
    double sum = 0;
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, continue_prompts(a, a->tuned, &s));
    SOW_TRY_OR(rc, SOW_ALLOC(&items, s.n));
    SOW_TRY_OR(rc, SOW_ALLOC(&tuned, s.n_ids));
    SOW_TRY_OR(rc, SOW_ALLOC(&base, s.n_ids));
    SOW_TRY_OR(rc, score(a, a->tuned, &s, items, tuned));
    SOW_TRY_OR(rc, score(a, a->base, &s, items, base));
    for (int64_t i = 0; i < s.n; i++)
        for (int64_t k = 0; k < s.starts[i + 1] - s.starts[i] - s.n_prompt[i]; k++)
            sum += (double)tuned[s.starts[i] + k] - (double)base[s.starts[i] + k];
    out->sampled = sum / (double)s.n;
    out->sampled_length = mean_length(&s);
done:
    SOW_FREE(&items);
    SOW_FREE(&tuned);
    SOW_FREE(&base);
    sow_sequences_fini(&s);
    return rc;
}

/* A walk over all positions of the fixed continuations, as many at a time as there is room for. */
typedef struct walk {
    const sow_kl_args *args;
    const sow_sequences *s;
    int64_t vocab, room;   /* rows */
    float *base, *tuned;   /* owned, [room][vocab] */
    sow_logit_item *items; /* owned, [s->n] */
    int32_t *next;         /* owned, [room]: the token that a row foretells */
    int64_t *sequence;     /* owned, [room] */
    sow_kl_row *rows;      /* owned, [room] */
    sow_kl_row *sums;      /* owned, [s->n] */
    int64_t i, at;         /* the next sequence, and the tokens of its continuation that are done */
    int64_t n_items, n_rows;
} walk;

static void walk_fini(walk *w)
{
    SOW_FREE(&w->base);
    SOW_FREE(&w->tuned);
    SOW_FREE(&w->items);
    SOW_FREE(&w->next);
    SOW_FREE(&w->sequence);
    SOW_FREE(&w->rows);
    SOW_FREE(&w->sums);
}

static sow_code walk_init(walk *w)
{
    int64_t all = w->s->n_ids;
    w->room = w->args->room > 0 ? w->args->room : SOW_KL_ROOM_BYTES / (int64_t)sizeof(float) / w->vocab;
    w->room = w->room < 1 ? 1 : w->room < all ? w->room : all;
    SOW_TRY(SOW_ALLOC(&w->base, w->room * w->vocab));
    SOW_TRY(SOW_ALLOC(&w->tuned, w->room * w->vocab));
    SOW_TRY(SOW_ALLOC(&w->items, w->s->n));
    SOW_TRY(SOW_ALLOC(&w->next, w->room));
    SOW_TRY(SOW_ALLOC(&w->sequence, w->room));
    SOW_TRY(SOW_ALLOC(&w->rows, w->room));
    return SOW_ALLOC(&w->sums, w->s->n);
}

static int64_t continuation(const sow_sequences *s, int64_t i)
{
    return s->starts[i + 1] - s->starts[i] - s->n_prompt[i];
}

/* Takes the next positions: a long sequence may be cut, and goes on in the next turn. */
static void gather(walk *w)
{
    w->n_items = w->n_rows = 0;
    while (w->i < w->s->n && w->n_rows < w->room) {
        const int32_t *ids = w->s->ids + w->s->starts[w->i];
        int64_t left = continuation(w->s, w->i) - w->at, room = w->room - w->n_rows, n = left < room ? left : room;
        int64_t first = w->s->n_prompt[w->i] + w->at; /* the first token that is foretold */
        if (n > 0)
            w->items[w->n_items++] = (sow_logit_item){.ids = ids, .n = first + n - 1, .n_last = n};
        for (int64_t k = 0; k < n; k++) {
            w->next[w->n_rows] = ids[first + k];
            w->sequence[w->n_rows++] = w->i;
        }
        w->at = n == left ? 0 : w->at + n;
        w->i += n == left;
    }
}

static sow_code compare(walk *w)
{
    for (int model = 0; model < 2; model++) {
        float *out = model == 0 ? w->base : w->tuned;
        for (int64_t i = 0; i < w->n_items; i++) {
            w->items[i].out = out;
            out += w->items[i].n_last * w->vocab;
        }
        SOW_TRY(
            sow_engine_logits_of(w->args->engine, model == 0 ? w->args->base : w->args->tuned, w->items, w->n_items));
    }
#pragma omp parallel for schedule(static) if (w->n_rows * w->vocab > 100000)
    for (int64_t r = 0; r < w->n_rows; r++)
        w->rows[r] = sow_kl_of_logits(w->base + r * w->vocab, w->tuned + r * w->vocab, w->vocab, w->next[r]);
    for (int64_t r = 0; r < w->n_rows; r++) {
        sow_kl_row *sum = &w->sums[w->sequence[r]];
        sum->token += w->rows[r].token;
        sum->exact += w->rows[r].exact;
        sum->reverse += w->rows[r].reverse;
    }
    return SOW_OK;
}

static sow_code measure_fixed(const sow_kl_args *a, const sow_sequences *s, sow_kl *out)
{
    walk w = {.args = a, .s = s, .vocab = a->layout->shape.vocab_size};
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, walk_init(&w));
    for (gather(&w); w.n_rows > 0; gather(&w))
        SOW_TRY_OR(rc, compare(&w));
    for (int64_t i = 0; i < s->n; i++) {
        double n = (double)s->n * (double)continuation(s, i);
        out->token += n > 0 ? w.sums[i].token / n : 0;
        out->exact += n > 0 ? w.sums[i].exact / n : 0;
        out->exact_reverse += n > 0 ? w.sums[i].reverse / n : 0;
    }
    out->base_length = mean_length(s);
done:
    walk_fini(&w);
    return rc;
}

sow_code sow_kl_measure(const sow_kl_args *args, sow_sequences *fixed, sow_kl *out)
{
    sow_kl kl = {.rows = args->n_prompts};
    if (args->n_prompts < 1 || args->max_new < 1)
        return SOW_FAIL(SOW_EARG, "KL of %lld prompts and %lld new tokens, expected 1 or more of both",
                        (long long)args->n_prompts, (long long)args->max_new);
    if (fixed->n == 0) {
        sow_code rc = continue_prompts(args, args->base, fixed);
        if (rc != SOW_OK)
            sow_sequences_fini(fixed);
        SOW_TRY(rc);
    }
    SOW_ASSERT(fixed->n == args->n_prompts);
    SOW_TRY(measure_sampled(args, &kl));
    SOW_TRY(measure_fixed(args, fixed, &kl));
    *out = kl;
    return SOW_OK;
}

void sow_kl_put(sow_line *line, const char *key, const char *task, const sow_kl *kl)
{
    sow_line_begin_object(line, key);
    sow_line_string(line, "task", task);
    sow_line_int(line, "rows", kl->rows);
    sow_line_real(line, "kl_sampled", kl->sampled);
    sow_line_real(line, "kl_base", kl->token);
    sow_line_real(line, "kl_exact", kl->exact);
    sow_line_real(line, "kl_exact_reverse", kl->exact_reverse);
    sow_line_real(line, "sampled_length", kl->sampled_length);
    sow_line_real(line, "base_length", kl->base_length);
    sow_line_end_object(line);
}
