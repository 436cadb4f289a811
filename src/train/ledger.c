/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/ledger.h"

#include "sower/alloc.h"
#include "sower/log.h"
#include "sower/words.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the lines of a method are called, and how many numbers they hold (0: the population). */
typedef struct form {
    const char *method, *counter, *list, *values;
    int64_t n_values;
    bool has_moments;
} form;

static const form forms[] = {
    {"es", "generation", "fitness", NULL, 0, false},
    {"grpo", "step", "values", "reward, loss, grad_norm", 3, true},
    {"sft", "step", "values", "loss, grad_norm", 2, true},
};
enum { N_FORMS = sizeof forms / sizeof *forms };

static const form *find_form(const char *method)
{
    for (int i = 0; i < N_FORMS; i++)
        if (method != NULL && strcmp(forms[i].method, method) == 0)
            return &forms[i];
    return NULL;
}

int64_t sow_ledger_n_values(const sow_options *options)
{
    const form *f = find_form(options->method);
    return f == NULL || f->n_values == 0 ? options->es.population : f->n_values;
}

static sow_code put_setting(void *context, const char *key, const char *value)
{
    sow_line_string(context, key, value);
    return SOW_OK;
}

/* Under such a schedule the length of the run determines every step. */
static bool has_falling_rate(const sow_options *o)
{
    const char *schedule = strcmp(o->method, "grpo") == 0  ? o->grpo.schedule
                           : strcmp(o->method, "sft") == 0 ? o->sft.schedule
                                                           : "constant";
    return strcmp(schedule, "constant") != 0;
}

sow_code sow_ledger_header(const sow_options *options, const sow_ledger_facts *facts, char **out)
{
    sow_line *line = NULL;
    const char *text = NULL;
    sow_code rc = SOW_OK;
    sow_options *resolved = NULL; /* `auto` and 0 stand for what they became: equal runs have equal headers */
    SOW_TRY(sow_line_create(&line));
    SOW_TRY_OR(rc, SOW_ALLOC(&resolved, 1));
    *resolved = *options;
    (void)snprintf(resolved->model.dtype, sizeof resolved->model.dtype, "%s", facts->dtype);
    resolved->generate.max_new_tokens = facts->max_new_tokens;
    sow_line_begin_object(line, NULL);
    sow_line_int(line, "ledger", 1);
    sow_line_int(line, "numerics", SOW_NUMERICS);
    sow_line_string(line, "method", options->method);
    sow_line_string(line, "model", facts->model);
    sow_line_string(line, "tokenizer", facts->tokenizer);
    sow_line_string(line, "rows", facts->rows);
    sow_line_string(line, "chat", facts->chat);
    sow_line_string(line, "backend", facts->backend);
    sow_line_int(line, "batch", facts->batch);
    if (facts->row_tokens > 0)
        sow_line_int(line, "row_tokens", facts->row_tokens);
    const form *f = find_form(options->method);
    sow_line_int(line, f == NULL || f->n_values == 0 ? "population" : "n_values", sow_ledger_n_values(options));
    if (f != NULL && f->values != NULL)
        sow_line_string(line, "values", f->values);
    if (has_falling_rate(options))
        sow_line_int(line, "steps", options->run.steps);
    sow_line_begin_object(line, "settings");
    SOW_TRY_OR(rc, sow_conf_result_settings(resolved, put_setting, line));
    sow_line_end_object(line);
    sow_line_end_object(line);
    SOW_TRY_OR(rc, sow_line_text(line, &text));
    SOW_TRY_OR(rc, sow_alloc_string(out, text));
done:
    SOW_FREE(&resolved);
    sow_line_destroy(&line);
    return rc;
}

/* chain' = XXH3-128(hex of chain, text). */
static sow_code extend_chain(sow_hash chain, const char *text, size_t bytes, sow_hash *out)
{
    char hex[SOW_HASH_HEX];
    sow_words joined = {0};
    sow_hash_write(chain, hex);
    sow_code rc = sow_words_add(&joined, hex, SOW_HASH_HEX - 1);
    if (rc == SOW_OK)
        rc = sow_words_add(&joined, text, bytes);
    if (rc == SOW_OK)
        *out = sow_hash_bytes(joined.text, joined.bytes);
    sow_words_fini(&joined);
    return rc;
}

static bool parse_hash(const sow_json *node, sow_hash *out)
{
    size_t bytes = 0;
    const char *text = sow_json_to_string(node, &bytes);
    char again[SOW_HASH_HEX];
    if (text == NULL || bytes != SOW_HASH_HEX - 1 ||
        sscanf(text, "%16" SCNx64 "%16" SCNx64, &out->high, &out->low) != 2)
        return false;
    sow_hash_write(*out, again);
    return strcmp(again, text) == 0;
}

static bool parse_fitness(const sow_json *node, double *out)
{
    const char *text = sow_json_to_string(node, NULL);
    char *end = NULL;
    char again[64];
    if (text == NULL)
        return false;
    *out = strtod(text, &end);
    (void)snprintf(again, sizeof again, "%a", *out);
    return end != text && *end == '\0' && isfinite(*out) && strcmp(again, text) == 0;
}

static sow_code grow(sow_ledger *l, int64_t *capacity)
{
    if (l->n < *capacity)
        return SOW_OK;
    int64_t bigger = *capacity < 64 ? 64 : *capacity * 2;
    SOW_TRY(SOW_RESIZE(&l->fitness, *capacity * l->population, bigger * l->population));
    SOW_TRY(SOW_RESIZE(&l->digests, *capacity, bigger));
    SOW_TRY(SOW_RESIZE(&l->moments, *capacity, bigger));
    SOW_TRY(SOW_RESIZE(&l->chains, *capacity, bigger));
    *capacity = bigger;
    return SOW_OK;
}

/* One whole line: generation or step n + 1. */
static sow_code read_line(sow_ledger *l, const sow_json *json, const char *text, int64_t *capacity)
{
    int64_t want = l->n + 1, generation = -1;
    const char *chain_at = strstr(text, ", \"chain\"");
    char hex[SOW_HASH_HEX], end[SOW_HASH_HEX + 32]; /* what stands behind the bytes of the chain */
    sow_hash digest, chain, expected = {0};
    const form *f = &forms[l->form];
    sow_hash moments = {0};
    char where[SOW_TEXT + 64];
    (void)snprintf(where, sizeof where, "%s:%lld: %s %lld", l->path, (long long)want + 1, f->counter, (long long)want);
    if (!sow_json_to_int(sow_json_get(json, f->counter), &generation) || generation != want)
        return SOW_FAIL(SOW_EFORMAT, "%s: its number is %lld, expected %lld", where, (long long)generation,
                        (long long)want);
    const sow_json *fitness = sow_json_get(json, f->list);
    if (sow_json_size(fitness) != l->population || sow_json_kind_of(fitness) != SOW_JSON_ARRAY)
        return SOW_FAIL(SOW_EFORMAT, "%s: has %lld numbers, expected %lld", where, (long long)sow_json_size(fitness),
                        (long long)l->population);
    SOW_TRY(grow(l, capacity)); /* not before: the header alone may claim anything */
    for (int64_t i = 0; i < l->population; i++)
        if (!parse_fitness(sow_json_at(fitness, i), &l->fitness[l->n * l->population + i]))
            return SOW_FAIL(SOW_EFORMAT, "%s: number %lld is not a finite C99 hexadecimal number", where, (long long)i);
    if (!parse_hash(sow_json_get(json, "digest"), &digest) || !parse_hash(sow_json_get(json, "chain"), &chain) ||
        (f->has_moments && !parse_hash(sow_json_get(json, "moments"), &moments)))
        return SOW_FAIL(SOW_EFORMAT, "%s: digest or chain is not 32 hexadecimal digits", where);
    SOW_TRY(extend_chain(sow_ledger_chain(l), text, chain_at == NULL ? 0 : (size_t)(chain_at - text), &expected));
    sow_hash_write(chain, hex);
    (void)snprintf(end, sizeof end, ", \"chain\": \"%s\"}", hex);
    if (!sow_hash_equal(chain, expected) || chain_at == NULL || strcmp(chain_at, end) != 0)
        return SOW_FAIL(SOW_EFORMAT, "%s: the chain does not fit: the line or one before it was changed", where);
    l->digests[l->n] = digest;
    l->moments[l->n] = moments;
    l->chains[l->n] = chain;
    l->n++;
    return SOW_OK;
}

static sow_code read_header(sow_ledger *l, const sow_json *json, const char *text)
{
    int64_t version = 0;
    if (!sow_json_to_int(sow_json_get(json, "ledger"), &version) || version != 1)
        return SOW_FAIL(SOW_EFORMAT, "%s:1: is not the header of a ledger of version 1", l->path);
    const char *method = sow_json_to_string(sow_json_get(json, "method"), NULL);
    const form *f = find_form(method);
    if (f == NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s:1: method: '%s', expected es, grpo or sft", l->path,
                        method == NULL ? "" : method);
    l->form = (int)(f - forms);
    l->has_moments = f->has_moments;
    l->population = f->n_values;
    if (f->n_values == 0 && (!sow_json_to_int(sow_json_get(json, "population"), &l->population) || l->population < 2 ||
                             l->population > 1 << 20))
        return SOW_FAIL(SOW_EFORMAT, "%s:1: population: %lld, expected 2 to 1048576", l->path,
                        (long long)l->population);
    SOW_TRY(sow_alloc_string(&l->header, text));
    l->header_chain = sow_hash_bytes(text, strlen(text));
    return SOW_OK;
}

/* Line `number` (from 1) without its newline; is_last: nothing follows it.  *is_torn: it is the end of a write that was
 * cut. */
static sow_code take_line(sow_ledger *l, const char *text, size_t bytes, int64_t number, bool is_last,
                          int64_t *capacity, bool *is_torn)
{
    char what[SOW_TEXT + 32];
    char *copy = NULL;
    sow_json *json = NULL;
    (void)snprintf(what, sizeof what, "%s:%lld", l->path, (long long)number);
    sow_code rc = sow_json_parse(text, bytes, what, &json);
    if (rc != SOW_OK) {
        *is_torn = is_last;
        return is_last ? SOW_OK
                       : SOW_FAIL(SOW_EFORMAT, "%s:%lld: %s %lld: is not JSON", l->path, (long long)number,
                                  forms[l->form].counter, (long long)number - 1);
    }
    SOW_TRY_OR(rc, SOW_ALLOC(&copy, bytes + 1));
    memcpy(copy, text, bytes);
    rc = number == 1 ? read_header(l, json, copy) : read_line(l, json, copy, capacity);
done:
    SOW_FREE(&copy);
    sow_json_destroy(&json);
    return rc;
}

sow_code sow_ledger_read(const char *path, sow_ledger **out)
{
    sow_ledger *l = NULL;
    sow_mapping map = {0};
    int64_t capacity = 0;
    sow_code rc = SOW_OK;
    SOW_TRY(SOW_ALLOC(&l, 1));
    SOW_TRY_OR(rc, sow_alloc_string(&l->path, path));
    if (!sow_file_exists(path))
        goto done;
    SOW_TRY_OR(rc, sow_file_map(path, &map));
    const char *text = (const char *)map.data;
    for (size_t at = 0, number = 1; at < map.bytes; number++) {
        const char *newline = memchr(text + at, '\n', map.bytes - at);
        size_t end = newline == NULL ? map.bytes : (size_t)(newline - text);
        bool is_last = end + 1 >= map.bytes, is_torn = newline == NULL;
        if (!is_torn)
            SOW_TRY_OR(rc, take_line(l, text + at, end - at, (int64_t)number, is_last, &capacity, &is_torn));
        l->has_torn_end = is_torn;
        if (is_torn)
            break;
        at = end + 1;
        l->good_bytes = (int64_t)at;
    }
done:
    sow_file_unmap(&map);
    if (rc != SOW_OK)
        sow_ledger_destroy(&l);
    else
        *out = l;
    return rc;
}

void sow_ledger_destroy(sow_ledger **ledger)
{
    sow_ledger *l = *ledger;
    if (l == NULL)
        return;
    SOW_FREE(&l->path);
    SOW_FREE(&l->header);
    SOW_FREE(&l->fitness);
    SOW_FREE(&l->digests);
    SOW_FREE(&l->moments);
    SOW_FREE(&l->chains);
    SOW_FREE(ledger);
}

sow_hash sow_ledger_chain(const sow_ledger *l)
{
    return l->n == 0 ? l->header_chain : l->chains[l->n - 1];
}

/* Compares the values of one object with another's, key by key. */
static sow_code compare_objects(const char *path, const char *prefix, const sow_json *was, const sow_json *now)
{
    void *iterator = NULL;
    const char *key = NULL;
    const sow_json *value = NULL;
    while (sow_json_next(now, &iterator, &key, &value)) {
        const sow_json *old = sow_json_get(was, key);
        char name[SOW_TEXT];
        (void)snprintf(name, sizeof name, "%s%s", prefix, key);
        if (sow_json_kind_of(value) == SOW_JSON_OBJECT) {
            SOW_TRY(compare_objects(path, "", old, value));
            continue;
        }
        int64_t a = 0, b = 0;
        const char *text_a = sow_json_to_string(old, NULL), *text_b = sow_json_to_string(value, NULL);
        if (sow_json_to_int(old, &a) && sow_json_to_int(value, &b) && a != b)
            return SOW_FAIL(SOW_ECONF, "%s: %s: %lld is not what the run began with, expected %lld", path, name,
                            (long long)b, (long long)a);
        if (text_b != NULL && (text_a == NULL || strcmp(text_a, text_b) != 0))
            return SOW_FAIL(SOW_ECONF, "%s: %s: '%s' is not what the run began with, expected '%s'", path, name, text_b,
                            text_a == NULL ? "nothing" : text_a);
    }
    return SOW_OK;
}

sow_code sow_ledger_compare(const char *path, const char *header, const char *header_now)
{
    sow_json *was = NULL, *now = NULL;
    sow_code rc = SOW_OK;
    if (strcmp(header, header_now) == 0)
        return SOW_OK;
    SOW_TRY_OR(rc, sow_json_parse(header, strlen(header), path, &was));
    SOW_TRY_OR(rc, sow_json_parse(header_now, strlen(header_now), path, &now));
    SOW_TRY_OR(rc, compare_objects(path, "", was, now));
    rc = SOW_FAIL(SOW_ECONF, "%s:1: the header is not the one this program writes for this configuration", path);
done:
    sow_json_destroy(&was);
    sow_json_destroy(&now);
    return rc;
}

struct sow_ledger_writer {
    sow_appender *file; /* owned */
    sow_hash chain;
};

sow_code sow_ledger_create(const char *path, const char *header, sow_ledger_writer **out)
{
    sow_ledger_writer *w = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(SOW_ALLOC(&w, 1));
    SOW_TRY_OR(rc, sow_appender_open(path, 0, true, &w->file));
    SOW_TRY_OR(rc, sow_appender_line(w->file, header));
    w->chain = sow_hash_bytes(header, strlen(header));
done:
    if (rc != SOW_OK)
        sow_ledger_close(&w);
    else
        *out = w;
    return rc;
}

sow_code sow_ledger_continue(const sow_ledger *ledger, sow_ledger_writer **out)
{
    sow_ledger_writer *w = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(SOW_ALLOC(&w, 1));
    SOW_TRY_OR(rc, sow_appender_open(ledger->path, ledger->good_bytes, true, &w->file));
    w->chain = sow_ledger_chain(ledger);
done:
    if (rc != SOW_OK)
        sow_ledger_close(&w);
    else
        *out = w;
    return rc;
}

static sow_code write_line(sow_ledger_writer *w, const form *f, int64_t number, const double *values, int64_t n,
                           sow_hash digest, sow_hash moments)
{
    sow_words text = {0};
    char hex[SOW_HASH_HEX];
    sow_hash chain = {0};
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, sow_words_print(&text, "{\"%s\": %lld, \"%s\": [", f->counter, (long long)number, f->list));
    for (int64_t i = 0; i < n; i++)
        SOW_TRY_OR(rc, sow_words_print(&text, "%s\"%a\"", i > 0 ? ", " : "", values[i]));
    sow_hash_write(digest, hex);
    SOW_TRY_OR(rc, sow_words_print(&text, "], \"digest\": \"%s\"", hex));
    sow_hash_write(moments, hex);
    if (f->has_moments)
        SOW_TRY_OR(rc, sow_words_print(&text, ", \"moments\": \"%s\"", hex));
    SOW_TRY_OR(rc, extend_chain(w->chain, text.text, text.bytes, &chain));
    sow_hash_write(chain, hex);
    SOW_TRY_OR(rc, sow_words_print(&text, ", \"chain\": \"%s\"}", hex));
    SOW_TRY_OR(rc, sow_appender_line(w->file, text.text));
    w->chain = chain;
done:
    sow_words_fini(&text);
    return rc;
}

sow_code sow_ledger_write(sow_ledger_writer *w, int64_t generation, const double *fitness, int64_t population,
                          sow_hash digest)
{
    return write_line(w, &forms[0], generation, fitness, population, digest, (sow_hash){0});
}

sow_code sow_ledger_write_step(sow_ledger_writer *w, int64_t step, const double *values, int64_t n, sow_hash digest,
                               sow_hash moments)
{
    return write_line(w, &forms[1], step, values, n, digest, moments); /* lines of grpo and sft are alike */
}

void sow_ledger_close(sow_ledger_writer **writer)
{
    if (*writer != NULL)
        sow_appender_close(&(*writer)->file);
    SOW_FREE(writer);
}
