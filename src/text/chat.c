/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/chat.h"

#include "text_impl.h"

#include <string.h>

typedef struct format {
    const char *name;
    const char *marks[3];                  /* tokens that show the format; NULL ends */
    const char *before_role, *before_text; /* a turn: before_role ROLE before_text TEXT behind_text */
    const char *behind_text;
    bool is_trimmed; /* white space around a turn's text is dropped */
} format;

static const format formats[] = {
#define CHAT(...) {__VA_ARGS__},
#include "chats.def"
#undef CHAT
};

const char *sow_chat_detect(const sow_tokenizer *tokenizer, const char *template_text)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        bool is_shown = true;
        for (int k = 0; k < 3 && formats[i].marks[k] != NULL; k++) {
            const char *mark = formats[i].marks[k];
            is_shown = is_shown && (template_text != NULL ? strstr(template_text, mark) != NULL
                                                          : sow_tokenizer_find(tokenizer, mark) >= 0);
        }
        if (is_shown)
            return formats[i].name;
    }
    return NULL;
}

static sow_code put(sow_words *out, const char *text)
{
    return sow_words_add(out, text, strlen(text));
}

static sow_code put_turn(const format *f, const char *role, const char *text, size_t bytes, sow_words *out)
{
    while (f->is_trimmed && bytes > 0 && strchr(" \t\r\n\v\f", text[bytes - 1]) != NULL && text[bytes - 1] != '\0')
        bytes--;
    while (f->is_trimmed && bytes > 0 && strchr(" \t\r\n\v\f", text[0]) != NULL && text[0] != '\0') {
        text++;
        bytes--;
    }
    SOW_TRY(put(out, f->before_role));
    SOW_TRY(put(out, role));
    SOW_TRY(put(out, f->before_text));
    SOW_TRY(sow_words_add(out, text, bytes));
    return put(out, f->behind_text);
}

sow_code sow_chat_wrap(const char *format_name, const char *system, const char *user, size_t user_bytes, sow_words *out)
{
    const format *f = NULL;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, format_name) == 0)
            f = &formats[i];
    if (f == NULL)
        return SOW_FAIL(SOW_EARG, "chat format '%.100s' is unknown", format_name);
    if (system != NULL)
        SOW_TRY(put_turn(f, "system", system, strlen(system), out));
    SOW_TRY(put_turn(f, "user", user, user_bytes, out));
    SOW_TRY(put(out, f->before_role));
    SOW_TRY(put(out, "assistant"));
    return put(out, f->before_text);
}
