// Backward, compiled for one instruction set (see attention_tiles.h). A task is a tile of keys of one key head, and
// goes through the queries that see it, head by head. Scores are [queries, keys], so that a task transposes only K and
// V, and each once:
//   S = Q K^T, P = exp(S / sqrt(dim) - lse), dP = dO V^T, dS = P (dP - delta) / sqrt(dim),
//   dV += P^T dO, dK += dS^T Q, dQ += dS K.

// delta = sum(d_o o) / sqrt(dim) of tokens [begin, end).
template <class T>
void prepare(const Backward<T>& b, std::int64_t begin, std::int64_t end) {
  const std::int64_t dim = b.heads.dim;
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  for (std::int64_t i = begin; i < end; ++i)
    for (std::int64_t head = 0; head < b.heads.queries; ++head) {
      const T *d_o = b.d_o.row(i) + head * dim, *o = b.o.row(i) + head * dim;
      Floats sums = {};
      for_lanes(dim, [&](std::int64_t d, auto n) MEMO_INLINE { sums += load(d_o + d, n) * load(o + d, n); });
      b.delta.row(i)[head] = simd::sum(sums) * scale;
    }
}

struct Scores {
  float *p, *ds;                  // [tile, score_stride]: S and dP, overwritten by P and dS, words along queries
  float* ds_rows;                 // [tile, score_stride]: dS, words along the keys; floats are the same words
  const float *lse, *delta;       // [tile]: lse in base 2
  const std::int32_t* first_key;  // [tile]
};

// Lowers the scores [queries, keys] of hidden keys so far that P is 0, while the derivative of a cap stays finite.
inline void hide_columns(const Visibility& visible, std::int64_t first_key, std::int64_t count, float* s) {
  constexpr float low = -1e15F;
  for (std::int64_t k = 0; k < count; ++k)
    if (visible.hidden(first_key + k))
      for (std::int64_t r = 0; r < tile; ++r) s[r * score_stride + k] = low;
}

// If `capped`, S are capped scores, and the derivative of the cap is 1 - (S / cap)^2.
template <bool masked, bool capped>
inline void probabilities(const Scores& s, std::int64_t query, std::int64_t first_key, std::int64_t count,
                          std::int64_t dim, float cap, std::span<const Ahead, 3> ahead) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim)), log2_scale = std::numbers::log2e_v<float> * scale;
  for (std::int64_t first = 0; first < tile; first += per_word) {
    for (const Ahead& rows : ahead)
      for (std::int64_t r = first; r < first + per_word; ++r) rows.fetch(r);
    for (std::int64_t i = 0; i < count; i += MEMO_LANES) {
      Vector p[per_word], ds[per_word];
      for (std::int64_t j = 0; j < per_word; ++j) {
        const std::int64_t r = first + j;
        const Vector score = vector_at(s.p + r * score_stride + i), dp = vector_at(s.ds + r * score_stride + i);
        p[j] = exp2(score * log2_scale - s.lse[r]);
        if constexpr (masked) {
          const Integers key = counting_from(first_key + i);
          p[j] = ((key >= s.first_key[r]) & (key <= static_cast<std::int32_t>(query + r))) != 0 ? p[j] : Vector{};
        }
        ds[j] = p[j] * (dp * scale - s.delta[r]);
        if constexpr (capped) {
          const Vector share = score / cap;
          ds[j] *= 1.0f - share * share;
        }
        store_row_words(s.ds_rows + r * score_stride, i, ds[j]);
      }
      vector_at(s.p + first / per_word * score_stride + i) = word(p);
      vector_at(s.ds + first / per_word * score_stride + i) = word(ds);
    }
  }
}

// Adds rows [count, dim] to the sum, in the order of key tiles.
template <class T>
inline void add_to_dq(const Backward<T>& b, std::int64_t query, std::int64_t head, const float* rows, bool first,
                      bool last) {
  const std::int64_t dim = b.heads.dim, stride = stride_of(dim);
  for (std::int64_t i = query; i < std::min(query + tile, b.tokens); ++i, rows += stride) {
    float* sum = b.sum.row(i) + head * dim;
    T* dq = b.dq.row(i) + head * dim;
    for_lanes(dim, [&](std::int64_t d, auto n) MEMO_INLINE {
      const Floats value = first ? load(rows + d, n) : load(sum + d, n) + load(rows + d, n);
      if (last)
        store(dq + d, value, n);
      else
        store(sum + d, value, n);
    });
  }
}

template <class T>
inline void store_rows(const float* rows, std::int64_t first, std::int64_t count, std::int64_t head, std::int64_t dim,
                       const Rows<T>& out) {
  for (std::int64_t i = 0; i < count; ++i)
    for_lanes(dim, [&](std::int64_t d, auto n) MEMO_INLINE {
      store(out.row(first + i) + head * dim + d, load(rows + i * stride_of(dim) + d, n), n);
    });
}

template <class T>
void backward_task(const Backward<T>& b, std::int64_t task, float* work, std::atomic<std::int32_t>* progress) {
  const auto [queries, keys, dim, softcap] = b.heads;
  const float cap = softcap * std::sqrt(static_cast<float>(dim));
  const std::int64_t key_head = task % keys, first_key = task / keys * key_tile, group = queries / keys;
  const std::int64_t key_count = std::min(key_tile, b.tokens - first_key);
  // Of words along tokens, and along dim.
  const std::int64_t stride = stride_of(dim), row_stride = stride_of(words(dim));
  const std::int64_t width = (dim + lanes - 1) / lanes * lanes;
  const auto probable = [&](const Scores& s, bool whole, std::int64_t query, std::int64_t count,
                            std::span<const Ahead, 3> ahead) {
    if (cap > 0)
      (whole ? probabilities<false, true> : probabilities<true, true>)(s, query, first_key, count, b.heads.dim, cap,
                                                                       ahead);
    else
      (whole ? probabilities<false, false> : probabilities<true, false>)(s, query, first_key, count, b.heads.dim, cap,
                                                                         ahead);
  };
  const auto take = [&work](std::int64_t floats) { return std::exchange(work, work + floats); };
  float *k = take(words(key_tile) * stride), *dk = take(key_tile * stride), *dv = take(key_tile * stride);
  float *q = take(words(tile) * stride), *d_o = take(words(tile) * stride), *d_rows = take(tile * stride);
  float *q_rows = MEMO_PAIRS ? take(tile * row_stride) : q, *d_o_rows = MEMO_PAIRS ? take(tile * row_stride) : d_o;
  // K^T and V^T, tiles of [words(dim), tile]
  float *k_columns = take(key_tile * words(dim)), *v_columns = take(key_tile * words(dim));
  float *p = take(tile * score_stride), *ds = take(tile * score_stride);
  float* ds_rows = MEMO_PAIRS ? take(tile * score_stride) : ds;
  float *lse = take(tile), *delta = take(tile);
  auto* first_key_of = reinterpret_cast<std::int32_t*>(take(tile));

  for (std::int64_t i = 0; i < key_tile; i += tile) {
    const std::int64_t some = std::clamp<std::int64_t>(key_count - i, 0, tile);
    const T* row = b.qkv.row(some > 0 ? first_key + i : first_key);
    pack_along(row + (queries + key_head) * dim, b.qkv.stride, some, dim, k + words(i) * stride);
    pack(row + (queries + key_head) * dim, b.qkv.stride, some, dim, q_rows);
    transpose(q_rows, row_stride, words(dim), k_columns + i * words(dim));
    pack(row + (queries + keys + key_head) * dim, b.qkv.stride, some, dim, q_rows);
    transpose(q_rows, row_stride, words(dim), v_columns + i * words(dim));
  }
  std::fill_n(dk, key_tile * stride, 0.0f);
  std::fill_n(dv, key_tile * stride, 0.0f);

  const bool any_hidden = b.visible.any_hidden(first_key, first_key + key_count);
  const std::int64_t end = b.visible.end_query(first_key + key_count - 1);
  for (std::int64_t query = first_key; query < end; query += tile) {
    const std::int64_t some = std::min(tile, b.tokens - query);
    first_keys(b.visible, query, b.tokens, first_key_of);
    const std::int64_t count = std::min(key_tile, query + tile - first_key);  // keys up to the tile's last query
    const bool whole = first_key_of[tile - 1] <= first_key && first_key + count <= query + 1;
    const bool first = first_key_of[0] >= first_key, last = query + some <= first_key + key_tile;
    for (std::int64_t head = key_head * group; head < (key_head + 1) * group; ++head) {
      const auto step = static_cast<std::int32_t>(query / tile * group + head - key_head * group);
      pack_along(b.qkv.row(query) + head * dim, b.qkv.stride, some, dim, q);
      pack_along(b.d_o.row(query) + head * dim, b.d_o.stride, some, dim, d_o);
      if constexpr (MEMO_PAIRS) {
        pack(b.qkv.row(query) + head * dim, b.qkv.stride, some, dim, q_rows);
        pack(b.d_o.row(query) + head * dim, b.d_o.stride, some, dim, d_o_rows);
      }
      for (std::int64_t i = 0; i < some; ++i) {
        lse[i] = std::numbers::log2e_v<float> * b.lse.row(query + i)[head];
        delta[i] = b.delta.row(query + i)[head];
      }
      std::fill(lse + some, lse + tile, 0.0f);
      std::fill(delta + some, delta + tile, 0.0f);
      for (std::int64_t i = 0; i < count; i += tile) {
        product<false, false>(tile, tile, words(dim), q_rows, row_stride, k_columns + i * words(dim), tile, p + i,
                              score_stride);
        product<false, false>(tile, tile, words(dim), d_o_rows, row_stride, v_columns + i * words(dim), tile, ds + i,
                              score_stride);
      }
      std::array<Ahead, 3> ahead;
      const bool next_head = head + 1 < (key_head + 1) * group;
      if (query + 2 * tile <= b.tokens) {
        const std::int64_t next = next_head ? query : query + tile,
                           column = (next_head ? head + 1 : key_head * group) * dim;
        ahead = {Ahead::of(b.qkv.row(next) + column, b.qkv.stride, dim),
                 Ahead::of(b.d_o.row(next) + column, b.d_o.stride, dim),
                 Ahead::of(b.sum.row(query) + head * dim, b.sum.stride, dim)};
      }
      if (cap > 0) cap_scores(p, tile, count, score_stride, cap);
      if (any_hidden) hide_columns(b.visible, first_key, count, p);
      probable({p, ds, ds_rows, lse, delta, first_key_of}, whole, query, count, ahead);
      product<true, true>(count, width, words(tile), p, score_stride, d_o, stride, dv, stride);
      product<true, true>(count, width, words(tile), ds, score_stride, q, stride, dk, stride);
      product<false, false>(tile, width, words(count), ds_rows, score_stride, k, stride, d_rows, stride);
      if (!first) wait_beyond(step, progress[task - keys]);
      add_to_dq(b, query, head, d_rows, first, last);
      progress[task].store(step + 1, std::memory_order_release);
    }
  }
  store_rows(dk, first_key, key_count, key_head, dim, b.dk);
  store_rows(dv, first_key, key_count, key_head, dim, b.dv);
}
