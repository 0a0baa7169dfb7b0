/* What must be known about a YAML text before libyaml sees it.
 *
 * libyaml has no depth limit and takes quadratic time on deep nesting; it stops silently at a NUL
 * byte, guesses UTF-16, and reports some problems without a line. So one linear pass bounds size
 * and nesting and refuses such bytes. The pass knows quotes, comments and flow brackets well enough
 * for texts that people write; what a hostile text hides from it (a bracket behind a quote that is
 * none) the loader's own exact count stops, some hundred tokens later. */
#include "config/config_internal.h"

#include <string.h>

typedef struct scanner {
    const char *name;
    const char *at;
    const char *end;
    int line;
    size_t indents[TT_YAML_MAX_DEPTH + 1]; /* columns at which open block levels start */
    size_t levels;
    size_t flow; /* open brackets */
} scanner;

static tt_status too_deep(const scanner *s)
{
    return tt_fail(TT_ECONFIG, "%s:%d: nested deeper than %d levels; parameters need at most a few",
                   s->name, s->line, TT_YAML_MAX_DEPTH);
}

static bool at_end_of_line(const scanner *s)
{
    return s->at == s->end || *s->at == '\n' || *s->at == '\r';
}

/* Moves over one line break; CR LF is one. */
static void next_line(scanner *s)
{
    if (s->at == s->end)
        return;
    char first = *s->at++;
    if (first == '\r' && s->at < s->end && *s->at == '\n')
        s->at++;
    s->line++;
}

static void skip_comment(scanner *s)
{
    while (!at_end_of_line(s))
        s->at++;
}

/* Moves behind a quoted scalar; to the end of the text if it is never closed (libyaml will say). */
static void skip_quoted(scanner *s)
{
    char quote = *s->at++;
    while (s->at < s->end) {
        if (*s->at == '\n' || *s->at == '\r') {
            next_line(s);
        } else if (quote == '"' && *s->at == '\\' && s->at + 1 < s->end) {
            s->at++;
            if (*s->at != '\n' && *s->at != '\r')
                s->at++;
        } else if (*s->at == quote) {
            s->at++;
            if (quote != '\'' || s->at == s->end || *s->at != '\'')
                return;
            s->at++; /* '' stands for one quote */
        } else {
            s->at++;
        }
    }
}

static tt_status open_level(scanner *s, size_t column)
{
    while (s->levels > 0 && s->indents[s->levels - 1] >= column)
        s->levels--;
    if (s->levels + s->flow >= TT_YAML_MAX_DEPTH)
        return too_deep(s);
    s->indents[s->levels++] = column;
    return TT_OK;
}

/* Indentation and the indicators `- ` and `? `, each of which opens a level on the same line. */
static tt_status scan_indentation(scanner *s)
{
    const char *start = s->at;
    tt_status status = TT_OK;
    while (status == TT_OK) {
        while (s->at < s->end && *s->at == ' ')
            s->at++;
        if (at_end_of_line(s) || *s->at == '#')
            return TT_OK;
        if (*s->at == '\t')
            return tt_fail(TT_ECONFIG, "%s:%d: a tab indents this line; use spaces", s->name,
                           s->line);
        status = open_level(s, (size_t)(s->at - start));
        bool indicator = (*s->at == '-' || *s->at == '?') && s->at + 1 < s->end &&
                         (s->at[1] == ' ' || s->at[1] == '\n' || s->at[1] == '\r');
        if (!indicator)
            return status;
        s->at++;
    }
    return status;
}

/* A quote opens a quoted scalar, and # a comment, only where a token can begin. */
static bool token_may_begin(const scanner *s, const char *line_start)
{
    return s->at == line_start || strchr(" \t,[]{}:", s->at[-1]) != NULL;
}

static tt_status scan_line(scanner *s)
{
    const char *line_start = s->at;
    tt_status status = s->flow == 0 ? scan_indentation(s) : TT_OK;
    while (status == TT_OK && !at_end_of_line(s)) {
        char c = *s->at;
        if (c == '#' && (s->at == line_start || s->at[-1] == ' ' || s->at[-1] == '\t')) {
            skip_comment(s);
            break;
        }
        if ((c == '"' || c == '\'') && token_may_begin(s, line_start)) {
            skip_quoted(s);
            continue;
        }
        if ((c == '[' || c == '{') && ++s->flow + s->levels > TT_YAML_MAX_DEPTH)
            status = too_deep(s);
        if ((c == ']' || c == '}') && s->flow > 0)
            s->flow--;
        s->at++;
    }
    if (status == TT_OK)
        next_line(s);
    return status;
}

/* Bytes that no configuration needs and that libyaml handles badly. */
static tt_status check_bytes(const char *name, const char *text, size_t bytes)
{
    int line = 1;
    for (size_t i = 0; i < bytes;) {
        uint32_t code = 0;
        size_t size = tt_utf8_decode(text + i, bytes - i, &code);
        if (size == 0 && i == 0 && bytes >= 2 &&
            (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0))
            return tt_fail(TT_ECONFIG, "%s:1: the text is UTF-16; save it as UTF-8", name);
        if (size == 0)
            return tt_fail(TT_ECONFIG, "%s:%d: byte 0x%02x is not UTF-8; save the text as UTF-8",
                           name, line, (unsigned)(unsigned char)text[i]);
        bool space = code == '\t' || code == '\n' || code == '\r';
        if ((code < 0x20 && !space) || (code >= 0x7f && code < 0xa0) || code == 0xfeff ||
            code == 0xfffe || code == 0xffff)
            return tt_fail(TT_ECONFIG, "%s:%d: %s U+%04X; remove it", name, line,
                           code == 0 ? "NUL byte" : "control character", (unsigned)code);
        if (code == '\n' || (code == '\r' && !(i + 1 < bytes && text[i + 1] == '\n')))
            line++;
        i += size;
    }
    return TT_OK;
}

tt_status tt_yaml_check(const char *name, const char **text, size_t *bytes)
{
    if (*bytes > TT_YAML_MAX_BYTES)
        return tt_fail(TT_ECONFIG, "%s: larger than 1 MiB; this is no configuration", name);
    if (*bytes >= 3 && memcmp(*text, "\xef\xbb\xbf", 3) == 0) {
        *text += 3;
        *bytes -= 3;
    }
    tt_status status = check_bytes(name, *text, *bytes);
    scanner s = {.name = name, .at = *text, .end = *text + *bytes, .line = 1};
    while (status == TT_OK && s.at < s.end)
        status = scan_line(&s);
    return status;
}
