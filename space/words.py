# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Everything that the page says, in English and in Korean.

The browser chooses the language of labels by itself; answers follow the header Accept-Language, which says the same.
"""

from typing import NamedTuple

EQUATION = "[softmax(QKᵀ / √dₖ)](https://arxiv.org/abs/1706.03762)"

ENGLISH = {
    "translate": "Translate",
    "translate_input": "Text (Enter translates)",
    "translate_output": "Translation",
    "translate_looked": "Cross-attention: each row is a token that was written, each column a token of the text. The fuller "
    "the colour, the more the decoder looked there to write that token.",
    "complete": "Complete",
    "complete_input": "Beginning (Shift+Enter completes)",
    "complete_output": "Text",
    "complete_looked": "Self-attention: each row is a token that was written, each column a token before it. The fuller the "
    "colour, the more the model looked there to write that token.",
    "fill": "Fill in",
    "fill_input": "Text with {mask} where a word is missing (Enter fills it in)",
    "fill_output": "Filled in with the likeliest",
    "fill_looked": "Self-attention: each row is a token that looks, each column a token that is looked at. The fuller the "
    "colour, the more of it the row takes.",
    "classify": "Classify",
    "classify_input": "Text (Enter classifies)",
    "classify_output": "The likeliest label",
    "classify_looked": "Self-attention: each row is a token that looks, each column a token that is looked at. The fuller the "
    "colour, the more of it the row takes. The label is read from the row {place}.",
    "tag": "Label the words",
    "tag_input": "Text (Enter labels its words)",
    "tag_output": "The likeliest label of each word",
    "tag_looked": "Self-attention: each row is a token that looks, each column a token that is looked at. The fuller the colour, "
    "the more of it the row takes. The label of a word is read from the row of its first token.",
    "answer": "Answer",
    "answer_input": "Text",
    "answer_output": "Answer",
    "answer_looked": "Self-attention: each row is a token that looks, each column a token that is looked at. The fuller the "
    "colour, the more of it the row takes. The question stands first; where the answer starts and ends is read from the rows of the "
    "text, and that there is none from the row {place}.",
    "question": "Question about it (Enter answers)",
    "word": "Word",
    "label": "Label",
    "probability": "Probability",
    "first": "at the top",
    "last": "at the bottom",
    "equation": "A row is " + EQUATION + " of equation 1 for one query, here with dₖ = {width}; it sums to 1.",
    "shape": "{layers} layers of {heads} heads, {weights:,} weights, reads up to {limit:,} tokens",
    "examples": "Examples",
    "inside": "Inside: every head, and the numbers behind a cell",
    "settings": "Settings",
    "layer": "Layer",
    "head": "Head",
    "guesses": "Guesses for each mask",
    "beams": "Beams",
    "beams_info": "1 is greedy search",
    "most": "New tokens, at most",
    "temperature": "Temperature",
    "temperature_info": "0: the likeliest token each time",
    "top_p": "Top-p",
    "top_p_info": "share of the probability to draw from",
    "seed": "Seed",
    "seed_info": "same seed, same text",
    # Lines about one answer.
    "mask_number": "mask {number}",
    "attention_of": "Attention of layer {layer}, head {head}",
    "attention_of_mean": "Attention of layer {layer}, mean of the heads",
    "picture": "{rows} rows, {columns} columns, strongest weight {strongest:.2f}",
    "read": "{count} tokens read",
    "written": "{count} written",
    "seconds": "{seconds:.2f} s",
    "unknown": "{count} of the tokens read are unknown to the model",
    "full": "no place for more tokens",
    "stopped": "stopped at the number of new tokens",
    "empty": "There is nothing to read: type a text first.",
    "too_many_characters": "The text is too long: {characters:,} characters, and this model reads {limit:,} tokens, here "
    "{most:,} characters at most.",
    "too_many_tokens": "The text is too long: {count:,} tokens, and this model reads {most:,} at most.",
    "no_mask": "Nothing is missing: write {mask} where a word should be guessed.",
    "no_question": "Nothing is asked: type a question first.",
    "no_answer": "no answer in this text",
}

KOREAN = {
    "translate": "번역하기",
    "translate_input": "글 (Enter를 누르면 번역합니다)",
    "translate_output": "번역",
    "translate_looked": "크로스 어텐션: 행은 모델이 쓴 토큰, 열은 입력의 토큰입니다. 색이 진할수록 디코더가 그 토큰을 쓸 때 그곳을 많이 "
    "보았습니다.",
    "complete": "이어 쓰기",
    "complete_input": "글의 시작 (Shift+Enter를 누르면 이어 씁니다)",
    "complete_output": "글",
    "complete_looked": "셀프 어텐션: 행은 모델이 쓴 토큰, 열은 그 앞의 토큰입니다. 색이 진할수록 모델이 그 토큰을 쓸 때 그곳을 많이 "
    "보았습니다.",
    "fill": "채우기",
    "fill_input": "빠진 단어 자리에 {mask}를 넣은 글 (Enter를 누르면 채웁니다)",
    "fill_output": "가장 그럴듯한 단어로 채운 글",
    "fill_looked": "셀프 어텐션: 행은 보는 토큰, 열은 보이는 토큰입니다. 색이 진할수록 행이 그 토큰에서 많이 가져옵니다.",
    "classify": "분류하기",
    "classify_input": "글 (Enter를 누르면 분류합니다)",
    "classify_output": "가장 그럴듯한 레이블",
    "classify_looked": "셀프 어텐션: 행은 보는 토큰, 열은 보이는 토큰입니다. 색이 진할수록 행이 그 토큰에서 많이 가져옵니다. 레이블은 "
    "{place} 행에서 읽습니다.",
    "tag": "단어에 레이블 붙이기",
    "tag_input": "글 (Enter를 누르면 단어마다 레이블을 붙입니다)",
    "tag_output": "단어마다 가장 그럴듯한 레이블",
    "tag_looked": "셀프 어텐션: 행은 보는 토큰, 열은 보이는 토큰입니다. 색이 진할수록 행이 그 토큰에서 많이 가져옵니다. 단어의 레이블은 "
    "그 첫 토큰의 행에서 읽습니다.",
    "answer": "답 찾기",
    "answer_input": "글",
    "answer_output": "답",
    "answer_looked": "셀프 어텐션: 행은 보는 토큰, 열은 보이는 토큰입니다. 색이 진할수록 행이 그 토큰에서 많이 가져옵니다. 질문이 먼저 "
    "나옵니다. 답의 시작과 끝은 글의 행에서, 답이 없다는 것은 {place} 행에서 읽습니다.",
    "question": "글에 대한 질문 (Enter를 누르면 답을 찾습니다)",
    "word": "단어",
    "label": "레이블",
    "probability": "확률",
    "first": "맨 위",
    "last": "맨 아래",
    "equation": "한 행은 쿼리 하나에 대한 식 1의 " + EQUATION + "입니다. 여기서는 dₖ = {width}이고, 합은 1입니다.",
    "shape": "층 {layers}개, 층마다 헤드 {heads}개, 가중치 {weights:,}개, 토큰 {limit:,}개까지 읽습니다",
    "examples": "예시",
    "inside": "안쪽: 모든 헤드와, 칸 하나 뒤의 숫자",
    "settings": "설정",
    "layer": "층",
    "head": "헤드",
    "guesses": "빈자리마다 보여 줄 후보 수",
    "beams": "빔",
    "beams_info": "1이면 그리디 탐색",
    "most": "새 토큰의 최대 개수",
    "temperature": "온도",
    "temperature_info": "0이면 매번 가장 그럴듯한 토큰",
    "top_p": "Top-p",
    "top_p_info": "뽑을 때 쓰는 확률의 몫",
    "seed": "시드",
    "seed_info": "같은 시드면 같은 글",
    "mask_number": "빈자리 {number}",
    "attention_of": "층 {layer}, 헤드 {head}의 어텐션",
    "attention_of_mean": "층 {layer}, 헤드 평균의 어텐션",
    "picture": "행 {rows}개, 열 {columns}개, 가장 큰 가중치 {strongest:.2f}",
    "read": "토큰 {count}개를 읽음",
    "written": "{count}개를 씀",
    "seconds": "{seconds:.2f}초",
    "unknown": "읽은 토큰 가운데 {count}개는 모델이 모르는 토큰",
    "full": "토큰을 더 쓸 자리가 없음",
    "stopped": "새 토큰의 최대 개수에서 멈춤",
    "empty": "읽을 것이 없습니다. 글을 먼저 써 주세요.",
    "too_many_characters": "글이 너무 깁니다. 문자 {characters:,}개인데, 이 모델은 토큰 {limit:,}개, 문자로는 {most:,}개까지 읽습니다.",
    "too_many_tokens": "글이 너무 깁니다. 토큰 {count:,}개인데, 이 모델은 {most:,}개까지 읽습니다.",
    "no_mask": "빠진 곳이 없습니다. 단어를 짐작할 자리에 {mask}를 써 주세요.",
    "no_question": "질문이 없습니다. 질문을 먼저 써 주세요.",
    "no_answer": "이 글에는 답이 없음",
}

LANGUAGES = {"en": ENGLISH, "ko": KOREAN}


class Line(NamedTuple):
    """One thing to say, not yet in a language."""

    key: str
    values: dict = {}

    def in_language(self, language: str) -> str:
        return LANGUAGES[language][self.key].format(**self.values)


def language_of(accepted: str | None) -> str:
    """Return the page's language for a header Accept-Language: Korean where it comes first, else English."""
    return "ko" if (accepted or "").strip().lower().startswith("ko") else "en"
