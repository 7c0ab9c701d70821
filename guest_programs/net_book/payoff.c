/* The core of a net book: no branch, no 64-bit comparison, so that a dispute can replay it in Bitcoin Script. */
#include "net_book.h"

__attribute__((noinline)) void payoff(struct sum *total, u32 kind, u32 strike, u32 cash, u32 price, u32 quantity,
                                      u32 alive) {
    u32 above = strike < price, below = price < strike;
    u32 put = kind & 1u, strike_bit = (kind >> 1) & 1u, cash_bit = (kind >> 2) & 1u;
    u32 forward = strike_bit & cash_bit;
    u32 fixed = opaque(mask((strike_bit | cash_bit) & (1u - forward)));
    u32 pays = opaque(mask(((above & (1u - put)) | (below & put) | forward) & alive));

    u32 down = opaque(mask(below));
    u32 distance = ((price - strike) ^ down) - down;
    u32 amount = strike ^ ((strike ^ cash) & opaque(mask(cash_bit)));
    u32 per_bitcoin = (distance ^ ((distance ^ amount) & fixed)) & pays;

    u32 sold = quantity >> 31;
    u32 size = (quantity ^ opaque(mask(sold))) - opaque(mask(sold));
    u32 negative = sold ^ (forward & below);
    u32 flip = opaque(mask(negative));

    struct wide value = product(per_bitcoin, size);
    u32 low = total->low + (value.low ^ flip), carry = low < total->low;
    u32 low_too = low + negative;
    carry += low_too < low;
    u32 high = total->high + (value.high ^ flip), over = high < total->high;
    u32 high_too = high + carry;
    over += high_too < high;
    total->low = low_too;
    total->high = high_too;
    total->top += flip + over;
}
