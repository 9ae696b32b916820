#include "serve/api_error.h"

#include <new>

#include "core/error.h"

namespace mxmla::serve {

namespace {

const char* AnthropicType(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    default:
      return status < 500 ? "invalid_request_error" : "api_error";
  }
}

}  // namespace

nlohmann::ordered_json ApiError::Json(ErrorForm form) const {
  if (form == ErrorForm::kAnthropic) {
    return {{"type", "error"}, {"error", {{"type", AnthropicType(status)}, {"message", message}}}};
  }
  const auto or_null = [](const std::string& text) -> nlohmann::ordered_json {
    return text.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(text);
  };
  return {{"error", {{"message", message}, {"type", type}, {"param", or_null(param)}, {"code", or_null(code)}}}};
}

void RefuseField(const std::string& field, const std::string& expected, const std::string& found) {
  throw ApiError(400, "invalid_request_error", ErrorLine(field, expected, found), field);
}

ApiError ToApiError(const std::exception_ptr& error) {
  const std::string kind = "invalid_request_error";
  try {
    std::rethrow_exception(error);
  } catch (const ApiError& known) {
    return known;
  } catch (const Error& known) {
    switch (known.code()) {
      case ErrorCode::kPromptTooLong:
        return ApiError(400, kind, known.what(), "messages", "context_length_exceeded");
      case ErrorCode::kUsage:
      case ErrorCode::kTokenRange:
      case ErrorCode::kData:
      case ErrorCode::kChatTemplate:
      case ErrorCode::kTokenizer:
      case ErrorCode::kMemory:
        return ApiError(400, kind, known.what());
      default:
        return ApiError(500, "server_error", known.what());
    }
  } catch (const std::bad_alloc&) {
    return ApiError(500, "server_error", "memory: expected room for the request, found too little");
  } catch (const std::exception& unknown) {
    return ApiError(500, "server_error", "internal error: " + PrintableLine(unknown.what()));
  } catch (...) {
    return ApiError(500, "server_error", "internal error");
  }
}

void RespondJson(Responder& responder, int status, const nlohmann::ordered_json& json, HttpHeaders headers) {
  headers.emplace_back("content-type", "application/json");
  responder.Respond(status, std::move(headers), DumpJson(json));
}

std::string DumpJson(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

void RespondError(Responder& responder, const ApiError& error, ErrorForm form) {
  HttpHeaders headers;
  if (error.status == 429 || error.status == 503) headers.emplace_back("retry-after", "1");
  if (error.status == 401) headers.emplace_back("www-authenticate", "Bearer");
  RespondJson(responder, error.status, error.Json(form), std::move(headers));
}

}  // namespace mxmla::serve
