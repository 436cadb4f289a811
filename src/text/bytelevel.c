/* SPDX-License-Identifier: Apache-2.0 */
/* The alphabet of byte-level tokenizers (GPT-2, Radford et al. 2019): every byte is one printable character.
 *
 * Bytes that print keep their own character (! to ~, U+00A1 to U+00AC, U+00AE to U+00FF); the 68 others, in their
 * order, get U+0100 to U+0143. */
#include "text_impl.h"

static bool is_own(unsigned byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
}

/* The 68 bytes that do not print: 0 to 32, 127 to 160, 173. */
static uint32_t char_of(unsigned byte)
{
    if (is_own(byte))
        return byte;
    if (byte <= ' ')
        return 0x100 + byte;
    return byte == 0xAD ? 0x143 : 0x100 + 33 + (byte - 0x7F);
}

static int byte_of(uint32_t c)
{
    if (c < 0x100)
        return is_own(c) ? (int)c : -1;
    if (c <= 0x120)
        return (int)(c - 0x100);
    if (c <= 0x142)
        return (int)(c - 0x121 + 0x7F);
    return c == 0x143 ? 0xAD : -1;
}

sow_code sow_text_from_bytes(const char *text, size_t bytes, sow_words *out)
{
    for (size_t i = 0; i < bytes; i++) {
        char c[4];
        SOW_TRY(sow_words_add(out, c, sow_text_char_write(char_of((unsigned char)text[i]), c)));
    }
    return SOW_OK;
}

sow_code sow_text_to_bytes(const char *token, size_t bytes, sow_words *out)
{
    size_t before = out->bytes;
    for (size_t at = 0; at < bytes;) {
        int byte = byte_of(sow_text_char(token, &at));
        if (byte < 0) {
            out->bytes = before;
            return sow_words_add(out, token, bytes);
        }
        char one = (char)byte;
        SOW_TRY(sow_words_add(out, &one, 1));
    }
    return SOW_OK;
}
