/* A module for Lua that is written in C, as lua-cjson is: it finds the machine's functions in the program. */

typedef struct lua_State lua_State;

extern double lua_tonumber(lua_State *state, int index);
extern void lua_pushnumber(lua_State *state, double number);
extern void lua_pushcclosure(lua_State *state, int (*function)(lua_State *), int count);
extern int luaL_error(lua_State *state, const char *format, ...);

static int half(lua_State *state)
{
    double number = lua_tonumber(state, 1);

    if (number < 0) {
        return luaL_error(state, "%d is negative", (int) number);
    }
    lua_pushnumber(state, number / 2);
    return 1;
}

int luaopen_lua_module(lua_State *state)
{
    lua_pushcclosure(state, half, 0);
    return 1;
}
