// GET /v1/responses/{id}/input_items: what an answer that is kept was made from.
#pragma once

#include <string_view>

#include "serve/request_fields.h"
#include "serve/response_store.h"

namespace mxmla::serve {

// An item of a request's input as it is kept and shown: with an id, a type and a status, its text in parts. What a
// template makes of it stays the same. `item` is one that ReadResponse has read.
Json KeptItem(Json item);

// A page of the items, with what previous_response_id stood for: `limit` of them (1 to 100, else 20) behind the item
// `after`, in the `order` desc or asc. Errors (ApiError 400): another value of these, an item that is not there.
Json InputItemsPage(const StoredResponse& stored, std::string_view query);

}  // namespace mxmla::serve
