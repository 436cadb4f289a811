/* SPDX-License-Identifier: Apache-2.0 */
/* Each part is read into units, run, and judged value by value; sums of gradients are judged in double, before they are
 * rounded to float32. */
#include "sower/reference_train.h"

#include "sower/alloc.h"
#include "sower/loss.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct check {
    const sow_train_reference_args *args;
    const sow_layout *layout;
    float *theta; /* owned: changed by steps */
    sow_replica *replica;
    sow_gradient *gradient;
    int64_t *sums; /* owned [n_elements] */
    sow_reference_part part;
    char name[32]; /* of the part */
    int64_t n_wrong;
} check;

/* The rows of a part: token ids, and units made of them. */
typedef struct batch {
    int64_t n;
    int32_t **ids;           /* owned [n], each owned */
    int64_t *lengths;        /* owned [n] */
    sow_sequence *sequences; /* owned [n] */
    sow_train_unit *units;   /* owned [n] */
    int64_t n_units, n_targets;
} batch;

static sow_code bad_form(const check *c, const char *key, const char *expected)
{
    return SOW_FAIL(SOW_EFORMAT, "%s: %s.%s: expected %s", c->args->what, c->name, key, expected);
}

static sow_code number(const check *c, const sow_json *node, const char *key, double *out)
{
    return sow_json_to_real(sow_json_get(node, key), out) ? SOW_OK : bad_form(c, key, "a number");
}

/* `scale`: what a small value is measured against. */
static void judge(check *c, const char *name, int64_t index, double got, double expected, double scale)
{
    sow_reference_part *part = &c->part;
    const double size = fmax(fabs(expected), scale), deviation = got == expected ? 0.0 : fabs(got - expected) / size;
    const bool is_wrong = !(deviation <= part->tolerance);
    if (part->n_wrong == 0 && (is_wrong || deviation >= part->largest)) {
        part->got = got;
        part->expected = expected;
        (void)snprintf(part->where, sizeof part->where, "%.64s value %lld", name, (long long)index);
    }
    if (!(deviation <= part->largest))
        part->largest = deviation;
    part->n_wrong += is_wrong;
    part->n_values++;
}

static void begin_part(check *c, const char *name)
{
    (void)snprintf(c->name, sizeof c->name, "%s", name);
    c->part = (sow_reference_part){.name = c->name, .tolerance = c->args->tolerance};
    sow_line_clear(c->args->line);
    sow_line_begin_object(c->args->line, NULL);
    sow_line_string(c->args->line, "part", c->name);
}

static sow_code end_part(check *c)
{
    sow_line *line = c->args->line;
    const sow_reference_part *part = &c->part;
    sow_line_bool(line, "ok", part->n_wrong == 0);
    sow_line_int(line, "values", part->n_values);
    sow_line_int(line, "wrong", part->n_wrong);
    sow_line_real(line, "largest", part->largest);
    sow_line_real(line, "tolerance", part->tolerance);
    sow_line_string(line, "where", part->where);
    sow_line_real(line, "got", part->got);
    sow_line_real(line, "expected", part->expected);
    sow_line_end_object(line);
    c->n_wrong += part->n_wrong;
    return c->args->report(c->args->context, part, line);
}

/* A value of the result: judged, and written. */
static sow_code judge_number(check *c, const sow_json *node, const char *key, double got, double scale)
{
    double expected = 0.0;
    SOW_TRY(number(c, node, key, &expected));
    judge(c, key, 0, got, expected, scale);
    sow_line_real(c->args->line, key, got);
    return SOW_OK;
}

/* ---- tensors ---- */

/* A tied embedding may be named by either of its uses. */
static sow_code find_tensor(const check *c, const char *name, const sow_tensor **out)
{
    const sow_layout *layout = c->layout;
    for (int64_t t = 0; t < layout->n_tensors; t++) {
        const sow_tensor *tensor = &layout->tensors[t];
        const bool is_tied = layout->shape.is_tied && tensor->kind == SOW_TENSOR_EMBED;
        if (strcmp(name, tensor->name) == 0 || (is_tied && strcmp(name, "lm_head.weight") == 0)) {
            *out = tensor;
            return SOW_OK;
        }
    }
    return SOW_FAIL(SOW_EFORMAT, "%s: %s: the model has no tensor %s", c->args->what, c->name, name);
}

static double gradient_at(const check *c, const sow_tensor *tensor, int64_t i)
{
    return (double)c->sums[tensor->offset + i] / SOW_FIXED_SCALE;
}

static double norm_of(const check *c, const sow_tensor *tensor)
{
    double sum = 0.0;
    for (int64_t i = 0; i < tensor->rows * tensor->cols; i++)
        sum += gradient_at(c, tensor, i) * gradient_at(c, tensor, i);
    return sqrt(sum);
}

/* [[flat index, value], ...] of a tensor; of gradients if `theta` is NULL. */
static sow_code judge_samples(check *c, const sow_tensor *tensor, const sow_json *samples, const float *theta,
                              double scale)
{
    for (int64_t i = 0; i < sow_json_size(samples); i++) {
        const sow_json *pair = sow_json_at(samples, i);
        int64_t at = -1;
        double expected = 0.0;
        if (!sow_json_to_int(sow_json_at(pair, 0), &at) || !sow_json_to_real(sow_json_at(pair, 1), &expected) ||
            at < 0 || at >= tensor->rows * tensor->cols)
            return bad_form(c, tensor->name, "pairs of an index into the tensor and a number");
        const double got = theta != NULL ? (double)theta[tensor->offset + at] : gradient_at(c, tensor, at);
        judge(c, tensor->name, at, got, expected, scale);
        sow_line_begin_array(c->args->line, NULL);
        sow_line_int(c->args->line, NULL, at);
        sow_line_real(c->args->line, NULL, got);
        sow_line_end_array(c->args->line);
    }
    return SOW_OK;
}

static sow_code judge_gradients(check *c, const sow_json *gradients)
{
    sow_line *line = c->args->line;
    void *at = NULL;
    const char *name = NULL;
    const sow_json *node = NULL;
    sow_line_begin_object(line, "grad");
    while (sow_json_next(gradients, &at, &name, &node)) {
        const sow_tensor *tensor = NULL;
        SOW_TRY(find_tensor(c, name, &tensor));
        const double norm = norm_of(c, tensor);
        double expected = 0.0;
        SOW_TRY(number(c, node, "norm", &expected));
        judge(c, name, -1, norm, expected, 0.0);
        sow_line_begin_object(line, name);
        sow_line_real(line, "norm", norm);
        sow_line_begin_array(line, "samples");
        SOW_TRY(judge_samples(c, tensor, sow_json_get(node, "samples"), NULL,
                              expected / sqrt((double)(tensor->rows * tensor->cols))));
        sow_line_end_array(line);
        sow_line_end_object(line);
    }
    sow_line_end_object(line);
    return SOW_OK;
}

static sow_code judge_parameters(check *c, const sow_json *parameters)
{
    sow_line *line = c->args->line;
    void *at = NULL;
    const char *name = NULL;
    const sow_json *node = NULL;
    sow_line_begin_object(line, "params");
    while (sow_json_next(parameters, &at, &name, &node)) {
        const sow_tensor *tensor = NULL;
        SOW_TRY(find_tensor(c, name, &tensor));
        sow_line_begin_array(line, name);
        SOW_TRY(judge_samples(c, tensor, node, c->theta, 0.0));
        sow_line_end_array(line);
    }
    sow_line_end_object(line);
    return SOW_OK;
}

/* ---- rows ---- */

static void free_batch(batch *b)
{
    for (int64_t i = 0; b->ids != NULL && i < b->n; i++)
        SOW_FREE(&b->ids[i]);
    SOW_FREE(&b->ids);
    SOW_FREE(&b->lengths);
    SOW_FREE(&b->sequences);
    SOW_FREE(&b->units);
}

static sow_code read_row(const check *c, const sow_json *row, int32_t **ids, int64_t *n)
{
    *n = sow_json_size(row);
    SOW_TRY(SOW_ALLOC(ids, *n));
    for (int64_t i = 0; i < *n; i++) {
        int64_t id = -1;
        if (!sow_json_to_int(sow_json_at(row, i), &id) || id < 0 || id >= c->layout->shape.vocab_size)
            return bad_form(c, "ids", "rows of token ids of this model");
        (*ids)[i] = (int32_t)id;
    }
    return SOW_OK;
}

static sow_code read_batch(const check *c, const sow_json *rows, batch *b)
{
    b->n = sow_json_size(rows);
    if (b->n == 0)
        return bad_form(c, "ids", "rows of token ids");
    SOW_TRY(SOW_ALLOC(&b->ids, b->n));
    SOW_TRY(SOW_ALLOC(&b->lengths, b->n));
    SOW_TRY(SOW_ALLOC(&b->sequences, b->n));
    SOW_TRY(SOW_ALLOC(&b->units, b->n));
    for (int64_t i = 0; i < b->n; i++)
        SOW_TRY(read_row(c, sow_json_at(rows, i), &b->ids[i], &b->lengths[i]));
    return SOW_OK;
}

/* Each row a unit of its own, all but its first token a target. */
static void make_rows(batch *b)
{
    b->n_units = b->n;
    for (int64_t i = 0; i < b->n; i++) {
        b->sequences[i] = (sow_sequence){b->ids[i], b->lengths[i]};
        b->units[i] = (sow_train_unit){.sequences = &b->sequences[i], .n_sequences = 1};
        b->n_targets += b->lengths[i] - 1;
    }
}

/* Rows of the same prompt that follow each other are a unit; the last token of the prompt begins each sequence. */
static sow_code make_groups(const check *c, const sow_json *node, batch *b)
{
    const sow_json *lengths = sow_json_get(node, "completion_lens");
    int64_t n_prompt = 0, n_completion = 0;
    if (!sow_json_to_int(sow_json_get(node, "prompt_len"), &n_prompt) || n_prompt < 1)
        return bad_form(c, "prompt_len", "a count of at least 1");
    for (int64_t i = 0; i < b->n; i++) {
        if (!sow_json_to_int(sow_json_at(lengths, i), &n_completion) || n_completion < 1 ||
            n_completion > b->lengths[i] - n_prompt)
            return bad_form(c, "completion_lens", "for each row a count of at least 1, within the row");
        b->sequences[i] = (sow_sequence){b->ids[i] + n_prompt - 1, n_completion + 1};
        b->n_targets += n_completion;
        if (i > 0 && memcmp(b->ids[i], b->ids[i - 1], (size_t)n_prompt * sizeof(int32_t)) == 0)
            b->units[b->n_units - 1].n_sequences++;
        else
            b->units[b->n_units++] = (sow_train_unit){b->ids[i], n_prompt - 1, &b->sequences[i], 1};
    }
    return SOW_OK;
}

static sow_code make_weights(check *c)
{
    SOW_TRY(sow_replica_make(c->replica, c->theta, NULL));
    return sow_gradient_weights(c->gradient, c->theta);
}

/* ---- cross-entropy ---- */

typedef struct cross_entropy {
    double weight, loss;
} cross_entropy;

static sow_code weigh_cross_entropy(void *context, const sow_token *tokens, int64_t n, sow_token_weight *out)
{
    cross_entropy *ce = context;
    for (int64_t i = 0; i < n; i++) {
        ce->loss -= ce->weight * (double)tokens[i].logprob;
        out[i] = (sow_token_weight){.logprob = (float)-ce->weight};
    }
    return SOW_OK;
}

/* Loss and, into c->sums, gradients (unless loss is all that is wanted). */
static sow_code run_cross_entropy(check *c, const batch *b, bool is_loss_only, double *loss)
{
    cross_entropy ce = {.weight = 1.0 / (double)b->n_targets};
    memset(c->sums, 0, (size_t)c->layout->n_elements * sizeof *c->sums);
    SOW_TRY(make_weights(c));
    SOW_TRY(sow_gradient_run(c->gradient, &(sow_gradient_args){.replica = c->replica,
                                                               .units = b->units,
                                                               .n_units = b->n_units,
                                                               .temperature = 1.0,
                                                               .weigh = weigh_cross_entropy,
                                                               .context = &ce,
                                                               .sums = is_loss_only ? NULL : c->sums}));
    *loss = ce.loss;
    return SOW_OK;
}

static sow_code check_cross_entropy(check *c, const sow_json *node)
{
    batch b = {0};
    double loss = 0.0;
    sow_code rc = SOW_OK;
    begin_part(c, "ce");
    SOW_TRY_OR(rc, read_batch(c, sow_json_get(node, "ids"), &b));
    make_rows(&b);
    SOW_TRY_OR(rc, run_cross_entropy(c, &b, false, &loss));
    SOW_TRY_OR(rc, judge_number(c, node, "loss", loss, 0.0));
    SOW_TRY_OR(rc, judge_gradients(c, sow_json_get(node, "grad")));
    rc = end_part(c);
done:
    free_batch(&b);
    return rc;
}

/* ---- AdamW ---- */

typedef struct adamw {
    double rate, betas[2], powers[2], eps, decay, clip; /* clip 0: none */
    float *gradient, *m, *v;                            /* owned [n_elements] */
    float *out;                                         /* owned [3][n_elements] */
} adamw;

static sow_code read_adamw(const check *c, const sow_json *node, adamw *a)
{
    const sow_json *betas = sow_json_get(node, "betas");
    SOW_TRY(number(c, node, "lr", &a->rate));
    SOW_TRY(number(c, node, "eps", &a->eps));
    SOW_TRY(number(c, node, "weight_decay", &a->decay));
    (void)sow_json_to_real(sow_json_get(node, "clip"), &a->clip);
    for (int i = 0; i < 2; i++) {
        if (!sow_json_to_real(sow_json_at(betas, i), &a->betas[i]))
            return bad_form(c, "betas", "two numbers");
        a->powers[i] = 1.0;
    }
    SOW_TRY(SOW_ALLOC(&a->gradient, c->layout->n_elements));
    SOW_TRY(SOW_ALLOC(&a->out, 3 * c->layout->n_elements));
    SOW_TRY(SOW_ALLOC(&a->m, c->layout->n_elements));
    return SOW_ALLOC(&a->v, c->layout->n_elements);
}

/* torch's clip_grad_norm_: 1, or what brings the norm of all gradients down to `clip`. */
static double clip_factor(const check *c, double clip)
{
    double sum = 0.0;
    for (int64_t t = 0; t < c->layout->n_tensors; t++) {
        const double norm = norm_of(c, &c->layout->tensors[t]);
        sum += norm * norm;
    }
    return clip > 0.0 ? fmin(1.0, clip / (sqrt(sum) + 1e-6)) : 1.0;
}

static void step(check *c, adamw *a)
{
    const sow_kernels *kernels = sow_la_kernels(c->args->la);
    const int64_t n = c->layout->n_elements;
    for (int i = 0; i < 2; i++)
        a->powers[i] *= a->betas[i];
    kernels->from_fixed(n, c->sums, a->gradient);
    kernels->adamw(&(sow_adamw_args){.n = n,
                                     .clip = (float)clip_factor(c, a->clip),
                                     .keep = (float)(1.0 - a->rate * a->decay),
                                     .one_minus_beta1 = (float)(1.0 - a->betas[0]),
                                     .beta2 = (float)a->betas[1],
                                     .one_minus_beta2 = (float)(1.0 - a->betas[1]),
                                     .eps = (float)a->eps,
                                     .step_size = (float)(a->rate / (1.0 - a->powers[0])),
                                     .root_correction = (float)sqrt(1.0 - a->powers[1]),
                                     .gradient = a->gradient,
                                     .theta = c->theta,
                                     .m = a->m,
                                     .v = a->v,
                                     .theta_out = a->out,
                                     .m_out = a->out + n,
                                     .v_out = a->out + 2 * n});
    memcpy(c->theta, a->out, (size_t)n * sizeof(float));
    memcpy(a->m, a->out + n, (size_t)n * sizeof(float));
    memcpy(a->v, a->out + 2 * n, (size_t)n * sizeof(float));
}

static sow_code run_steps(check *c, const sow_json *losses, const batch *b, adamw *a)
{
    const int64_t n = sow_json_size(losses);
    double loss = 0.0, expected = 0.0;
    sow_line_begin_array(c->args->line, "losses");
    for (int64_t i = 0; i < n; i++) {
        SOW_TRY(run_cross_entropy(c, b, i + 1 == n, &loss));
        if (!sow_json_to_real(sow_json_at(losses, i), &expected))
            return bad_form(c, "losses", "numbers");
        judge(c, "losses", i, loss, expected, 0.0);
        sow_line_real(c->args->line, NULL, loss);
        if (i + 1 < n)
            step(c, a);
    }
    sow_line_end_array(c->args->line);
    return SOW_OK;
}

static sow_code check_adamw(check *c, const sow_json *node, const sow_json *ce)
{
    batch b = {0};
    adamw a = {0};
    sow_code rc = SOW_OK;
    begin_part(c, "adamw");
    SOW_TRY_OR(rc, read_batch(c, sow_json_get(ce, "ids"), &b));
    make_rows(&b);
    SOW_TRY_OR(rc, read_adamw(c, node, &a));
    SOW_TRY_OR(rc, run_steps(c, sow_json_get(node, "losses"), &b, &a));
    SOW_TRY_OR(rc, judge_parameters(c, sow_json_get(node, "params")));
    rc = end_part(c);
done:
    memcpy(c->theta, c->args->theta, (size_t)c->layout->n_elements * sizeof *c->theta);
    SOW_FREE(&a.gradient);
    SOW_FREE(&a.m);
    SOW_FREE(&a.v);
    SOW_FREE(&a.out);
    free_batch(&b);
    return rc;
}

/* ---- policy losses ---- */

typedef struct policy {
    check *c;
    const sow_json *node;
    const batch *b;
    const sow_loss *kind;
    sow_loss_counts counts;
    sow_policy settings;
    sow_policy_sums sums;
    double size; /* of the loss, if its terms did not cancel: their weights times the size of the advantages */
} policy;

static sow_code read_policy(const check *c, const sow_json *node, policy *p)
{
    const char *name = sow_json_to_string(sow_json_get(node, "loss_type"), NULL);
    p->kind = name == NULL ? NULL : sow_loss_find(name);
    if (p->kind == NULL)
        return bad_form(c, "loss_type", "a loss that this version has");
    if (!sow_json_to_int(sow_json_get(node, "max_completion"), &p->counts.max_completion))
        return bad_form(c, "max_completion", "a count");
    SOW_TRY(number(c, node, "clip_low", &p->settings.clip_low));
    SOW_TRY(number(c, node, "clip_high", &p->settings.clip_high));
    return number(c, node, "beta", &p->settings.kl);
}

/* Number `at` of row `row` of a list of lists. */
static sow_code number_of_row(const policy *p, const char *key, int64_t row, int64_t at, double *out)
{
    if (sow_json_to_real(sow_json_at(sow_json_at(sow_json_get(p->node, key), row), at), out))
        return SOW_OK;
    return bad_form(p->c, key, "for each row a number for each token of its completion");
}

static sow_code weigh_token(policy *p, const sow_token *token, sow_token_weight *out)
{
    const int64_t row = p->b->units[token->unit].sequences - p->b->sequences + token->sequence;
    double old = 0.0, reference = 0.0, advantage = 0.0, expected = 0.0;
    SOW_TRY(number_of_row(p, "old_logp", row, token->index, &old));
    SOW_TRY(number_of_row(p, "ref_logp", row, token->index, &reference));
    SOW_TRY(number_of_row(p, "logp", row, token->index, &expected));
    if (!sow_json_to_real(sow_json_at(sow_json_get(p->node, "advantages"), row), &advantage))
        return bad_form(p->c, "advantages", "a number for each row");
    const float old_f = (float)old, reference_f = (float)reference;
    const double weight = p->kind->weight(&p->counts, p->b->sequences[row].n - 1);
    sow_policy_sums sums;
    sow_policy_weigh(&(sow_policy_args){.policy = &p->settings,
                                        .n = 1,
                                        .weight = weight,
                                        .advantage = advantage,
                                        .logprob = &token->logprob,
                                        .old = &old_f,
                                        .reference = &reference_f},
                     &out->logprob, NULL, &sums);
    out->entropy = 0.0f;
    p->size += weight * fabs(advantage);
    p->sums.loss += sums.loss;
    p->sums.kl += sums.kl;
    p->sums.clipped_low += sums.clipped_low;
    p->sums.clipped_high += sums.clipped_high;
    judge(p->c, "logp", row * p->counts.max_completion + token->index, (double)token->logprob, expected, 1.0);
    return SOW_OK;
}

static sow_code weigh_policy(void *context, const sow_token *tokens, int64_t n, sow_token_weight *out)
{
    for (int64_t i = 0; i < n; i++)
        SOW_TRY(weigh_token(context, &tokens[i], &out[i]));
    return SOW_OK;
}

static sow_code run_policy(check *c, const sow_json *node, const batch *b)
{
    policy p = {.c = c, .node = node, .b = b, .counts = {.sequences = b->n, .tokens = b->n_targets}};
    const double n = (double)b->n_targets;
    SOW_TRY(read_policy(c, node, &p));
    memset(c->sums, 0, (size_t)c->layout->n_elements * sizeof *c->sums);
    SOW_TRY(make_weights(c));
    SOW_TRY(sow_gradient_run(c->gradient, &(sow_gradient_args){.replica = c->replica,
                                                               .units = b->units,
                                                               .n_units = b->n_units,
                                                               .temperature = 1.0,
                                                               .weigh = weigh_policy,
                                                               .context = &p,
                                                               .sums = c->sums}));
    SOW_TRY(judge_number(c, node, "loss", p.sums.loss, p.size));
    SOW_TRY(judge_number(c, node, "clip_fraction", (double)(p.sums.clipped_low + p.sums.clipped_high) / n, 0.0));
    return judge_number(c, node, "mean_kl", p.sums.kl / n, 0.0);
}

static sow_code check_policy(check *c, const sow_json *node, int64_t index)
{
    batch b = {0};
    char name[32];
    sow_code rc = SOW_OK;
    (void)snprintf(name, sizeof name, "policy.%lld", (long long)index);
    begin_part(c, name);
    SOW_TRY_OR(rc, read_batch(c, sow_json_get(node, "ids"), &b));
    SOW_TRY_OR(rc, make_groups(c, node, &b));
    SOW_TRY_OR(rc, run_policy(c, node, &b));
    SOW_TRY_OR(rc, judge_gradients(c, sow_json_get(node, "grad")));
    rc = end_part(c);
done:
    free_batch(&b);
    return rc;
}

/* ---- all parts ---- */

bool sow_train_reference_has(const sow_json *reference)
{
    return sow_json_get(reference, "ce") != NULL || sow_json_get(reference, "policy") != NULL;
}

static sow_code check_parts(check *c)
{
    const sow_json *reference = c->args->reference, *ce = sow_json_get(reference, "ce");
    const sow_json *adamw_part = sow_json_get(reference, "adamw"), *policies = sow_json_get(reference, "policy");
    if (ce != NULL)
        SOW_TRY(check_cross_entropy(c, ce));
    if (adamw_part != NULL)
        SOW_TRY(check_adamw(c, adamw_part, ce));
    for (int64_t i = 0; i < sow_json_size(policies); i++)
        SOW_TRY(check_policy(c, sow_json_at(policies, i), i));
    return SOW_OK;
}

sow_code sow_train_reference_check(const sow_train_reference_args *args, int64_t *out_wrong)
{
    check c = {.args = args, .layout = args->layout};
    const size_t n = (size_t)args->layout->n_elements;
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, SOW_ALLOC(&c.theta, n));
    SOW_TRY_OR(rc, SOW_ALLOC(&c.sums, n));
    SOW_TRY_OR(rc, sow_replica_create(args->la, args->layout, args->type, &c.replica));
    SOW_TRY_OR(rc, sow_gradient_create(args->la, args->layout, args->type, args->options, &c.gradient));
    memcpy(c.theta, args->theta, n * sizeof *c.theta);
    SOW_TRY_OR(rc, check_parts(&c));
    *out_wrong = c.n_wrong;
done:
    sow_gradient_destroy(&c.gradient);
    sow_replica_destroy(&c.replica);
    SOW_FREE(&c.sums);
    SOW_FREE(&c.theta);
    return rc;
}
