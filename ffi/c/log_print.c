/* The one variadic slot of the plugin's table: stable Rust cannot define it. */

#include <stdarg.h>
#include <stdio.h>

/* In api.rs. */
void dataplane_plugin_log(int level, const char *text);

void dataplane_log_print(int level, const char *file, int line, const char *format, ...)
{
    char text[4096];
    va_list arguments;

    (void) file;
    (void) line;
    if (format == NULL) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    dataplane_plugin_log(level, text);
}
