/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options for people: docs/CONFIG.md and `sower config`. */
#include "conf_impl.h"

#include <string.h>

/* clang-format off */
static const char intro[] =
    "# Configuration\n"
    "\n"
    "<!-- Made by `sower config --doc` from include/sower/options.def and task_options.def: do not edit. -->\n"
    "\n"
    "A run is told what to do by one YAML file of sections, each a mapping of the keys below. Keys that are left out\n"
    "have their defaults; `config.yaml` in a run's folder shows every value that was used, and can be run again.\n"
    "\n"
    "```yaml\n"
    "model:  {path: models/sprout}\n"
    "run:    {steps: 100, seed: 1}\n"
    "es:     {population: 30, sigma: 1e-3, alpha: 5e-4}\n"
    "task:   {name: countdown, form: short}\n"
    "probes: [{task: calc, rows: 200, every: 10}, {task: rev}]\n"
    "```\n"
    "\n"
    "* `--set KEY=VALUE` (`--set es.sigma=2e-3`) stands above the file; of several the last one counts. The value is\n"
    "  taken as it stands, without YAML's quotes. `probes` are set whole: `--set 'probes=[{task: calc, rows: 100}]'`.\n"
    "* A whole number may be written `1e3`; yes and no are `true`, `false`, `yes`, `no`; a text has at most 511 bytes\n"
    "  of UTF-8.\n"
    "* Unknown keys, keys given twice, values out of range or of a wrong type and keys that do not fit together are\n"
    "  errors. Each is one line, `FILE:LINE: KEY: VALUE is ..., expected ...; did you mean ...?`, and the program\n"
    "  ends with exit code 2 on all ranks before anything is computed. Anchors, aliases, tags and further documents\n"
    "  are refused, and so are files of more than 1 MiB.\n"
    "* Values are checked in the sections of all methods, whichever runs. Keys of another method than `method` that\n"
    "  are given another value than their default do nothing; `sower run` and `sower plan` say so in one line of\n"
    "  warning.\n"
    "* **Result** says whether a setting determines the result, that is the fitnesses and the weights. Settings with\n"
    "  *yes* stand in the ledger's header, and a resumed run must have the same. Settings with *no* say how long, how\n"
    "  fast and where to run, and what to measure beside: whatever they are, the same generations have the same bits.\n"
    "  Paths are among them, because digests of the model and of the task's file stand in the header instead.\n"
    "\n";
static const char table_head[] =
    "| key | default | values | unit | result | what it does |\n"
    "|---|---|---|---|---|---|\n";
static const char probes_head[] =
    "\n## `probes`\n\n"
    "A list of at most 16 mappings, each a task whose accuracy is followed during the run. Probes never touch the\n"
    "result.\n\n";
_Static_assert(SOW_MAX_PROBES == 16 && SOW_TEXT == 512, "the texts above say so");
/* clang-format on */

/* Text in a cell of a table: a bar would end it. */
static void write_cell(FILE *to, const char *text)
{
    for (; *text != '\0'; text++)
        (void)fprintf(to, *text == '|' ? "\\%c" : "%c", *text);
}

static const char *default_of(const option_row *row)
{
    return strcmp(row->section, "probes") == 0 ? sow_conf_probe_default(row) : row->default_text;
}

/* "2 to 1048576", "a, b, c", "true, false", "" */
static void write_range(FILE *to, const option_row *row)
{
    char low[SOW_TEXT], high[SOW_TEXT];
    if (row->choices != NULL) {
        for (const char *at = row->choices; *at != '\0'; at++)
            (void)fprintf(to, *at == '|' ? ", " : "%c", *at);
    } else if (row->kind == KIND_BOOL) {
        (void)fprintf(to, "true, false");
    } else if (row->kind == KIND_TEXT) {
        (void)fprintf(to, "text");
    } else if (row->kind == KIND_INT) {
        (void)fprintf(to, "%.0f to %.0f, whole", row->low, row->high);
    } else {
        (void)fprintf(to, "%s to %s", sow_conf_format_real(row->low, low), sow_conf_format_real(row->high, high));
    }
}

static void write_doc_row(FILE *to, const option_row *row)
{
    bool is_probe = strcmp(row->section, "probes") == 0;
    const char *text = default_of(row);
    const char *quote = text[0] == '\0' ? "" : "`";
    (void)fprintf(to, "| `%s` | %s%s%s | ", row->name, quote, text, quote);
    write_range(to, row);
    (void)fprintf(to, " | %s | %s | ", row->unit, row->is_free || is_probe ? "no" : "yes");
    write_cell(to, row->doc);
    (void)fprintf(to, " |\n");
}

void sow_conf_write_doc(FILE *to)
{
    const char *section = NULL;
    (void)fputs(intro, to);
    for (int i = 0; i < N_ROWS; i++) {
        const option_row *row = &sow_conf_rows[i];
        if (section == NULL || strcmp(section, row->section) != 0) {
            section = row->section;
            (void)fprintf(to, section[0] == '\0' ? "## Above all sections\n\n" : "\n## `%s`\n\n", section);
            (void)fputs(table_head, to);
        }
        write_doc_row(to, row);
    }
    (void)fputs(probes_head, to);
    (void)fputs(table_head, to);
    for (int i = 0; i < N_PROBE_ROWS; i++)
        write_doc_row(to, &sow_conf_probe_rows[i]);
}

static void describe_row(FILE *to, const option_row *row)
{
    const char *text = default_of(row);
    (void)fprintf(to, "%s\n  %s\n", row->path, row->doc);
    (void)fprintf(to, "  default  %s\n  values   ", text[0] == '\0' ? "''" : text);
    write_range(to, row);
    (void)fprintf(to, "\n");
    if (row->unit[0] != '\0')
        (void)fprintf(to, "  unit     %s\n", row->unit);
    (void)fprintf(to, "  result   %s\n",
                  row->is_free || strcmp(row->section, "probes") == 0 ? "does not depend on it" : "depends on it");
}

bool sow_conf_describe(FILE *to, const char *key, const char **nearest)
{
    int n = 0;
    for (int i = 0; i < N_ROWS; i++) {
        const option_row *row = &sow_conf_rows[i];
        if (strcmp(row->path, key) == 0 || (key[0] != '\0' && strcmp(row->section, key) == 0)) {
            describe_row(to, row);
            n++;
        }
    }
    for (int i = 0; i < N_PROBE_ROWS; i++) {
        const option_row *row = &sow_conf_probe_rows[i];
        bool is_short = strncmp(key, "probes.", 7) == 0 && strcmp(row->name, key + 7) == 0;
        if (is_short || strcmp(key, "probes") == 0 || strcmp(row->path, key) == 0) {
            describe_row(to, row);
            n++;
        }
    }
    if (n > 0)
        return true;
    char section[KEY_BYTES] = "";
    const char *dot = strchr(key, '.');
    if (dot != NULL && (size_t)(dot - key) < sizeof section)
        (void)snprintf(section, sizeof section, "%.*s", (int)(dot - key), key);
    *nearest = sow_conf_meant(section, dot == NULL ? key : dot + 1);
    return false;
}

static void write_key(FILE *to, const option_row *row)
{
    const char *text = default_of(row);
    (void)fprintf(to, "%-32s %-16s %-12s %s\n", row->path, text[0] == '\0' ? "''" : text, row->unit, row->doc);
}

void sow_conf_write_keys(FILE *to)
{
    for (int i = 0; i < N_ROWS; i++)
        write_key(to, &sow_conf_rows[i]);
    for (int i = 0; i < N_PROBE_ROWS; i++)
        write_key(to, &sow_conf_probe_rows[i]);
}
