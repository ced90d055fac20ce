//! What must differ, what must not, and what holds for any text.

use proptest::prelude::*;

use super::{Features, Mismatch, compare};

fn judge(a: &str, b: &str) -> Result<(), Mismatch> {
    compare(&Features::of(a), &Features::of(b))
}

fn all(expected: Result<(), Mismatch>, pairs: &[(&str, &str)]) {
    for (a, b) in pairs {
        assert_eq!(judge(a, b), expected, "{a} | {b}");
        assert_eq!(judge(b, a), expected, "{b} | {a}");
    }
}

#[test]
fn numbers_units_dates_and_versions_must_agree() {
    all(
        Err(Mismatch::Number),
        &[
            ("retry after 30 seconds", "retry after 300 seconds"),
            ("retry after 30 s", "retry after 30 min"),
            ("what is 15% of 80", "what is 18% of 80"),
            ("flights on 2024-05-01", "flights on 2024-06-01"),
            ("call me at 10:30", "call me at 10:45"),
            ("is python 3.8 supported", "is python 3.9 supported"),
            ("does v2.10.0 have it", "does v2.11.0 have it"),
            ("it costs $20", "it costs €20"),
            ("three ways to tie a tie", "five ways to tie a tie"),
            ("population of France in 2010", "population of France"),
            ("等我三天", "等我五天"),
            ("30分钟能到吗", "30小时能到吗"),
            ("第一季讲什么", "第二季讲什么"),
        ],
    );
}

#[test]
fn one_quantity_has_many_spellings() {
    all(
        Ok(()),
        &[
            ("wait 30 s", "wait thirty seconds"),
            ("wait 90 minutes", "wait 1.5 hours"),
            ("2 ways to do it", "Two ways to do it"),
            ("it costs $20", "it costs 20 dollars"),
            ("a budget of INR 25000", "a budget of 25,000 INR"),
            ("in the 1st quarter", "in the 1 st quarter"),
            ("10 % off", "10 percent off"),
            ("twenty-five people", "25 people"),
            ("等三百天", "等300天"),
            ("跑五公里", "跑5公里"),
        ],
    );
}

#[test]
fn negation_opposites_and_direction() {
    all(
        Err(Mismatch::Negation),
        &[
            ("Is it safe to drink tap water?", "Is it not safe to drink tap water?"),
            ("which foods can dogs eat", "which foods can't dogs eat"),
            ("run it with a license", "run it without a license"),
            ("这个手机可以充电", "这个手机不可以充电"),
            ("电脑能开机怎么办", "电脑不能开机怎么办"),
        ],
    );
    all(
        Err(Mismatch::Opposite),
        &[
            ("how to enable dark mode", "how to disable dark mode"),
            ("is 3 more than x", "is 3 less than x"),
            ("when should I buy shares", "when should I sell shares"),
            ("what happens before the meeting", "what happens after the meeting"),
            ("大于五的数", "小于五的数"),
            ("怎么开启通知", "怎么关闭通知"),
        ],
    );
    all(
        Err(Mismatch::Order),
        &[
            ("flights from London to Paris", "flights from Paris to London"),
            ("convert celsius to fahrenheit", "convert fahrenheit to celsius"),
            ("celsius -> fahrenheit", "fahrenheit -> celsius"),
            ("is gold heavier than lead", "is lead heavier than gold"),
            ("can dogs chase cats", "can cats chase dogs"),
            ("从北京到上海怎么走", "从上海到北京怎么走"),
        ],
    );
}

#[test]
fn a_character_of_a_word_is_not_the_word() {
    all(
        Err(Mismatch::Part),
        &[("海阔天空是什么意思", "海阔天空的阔是什么意思？"), ("海阔天空中的阔字怎么读", "海阔天空怎么读")],
    );
    all(Ok(()), &[("中国的中学有多少", "中国中学有多少"), ("海阔天空的意思", "海阔天空是什么意思")]);
}

#[test]
fn names_quotes_code_and_closed_sets() {
    all(
        Err(Mismatch::Name),
        &[
            ("who was the wife of Napoleon", "who was the wife of Cromwell"),
            ("did Messi beat Ronaldo in Rome", "did Messi beat Neymar in Rome"),
            ("周杰伦的新歌", "林俊杰的新歌"),
            ("what does 😀 mean", "what does 😡 mean"),
            ("😀", "😡"),
        ],
    );
    all(
        Err(Mismatch::Term),
        &[
            ("the capital of France", "the capital of Germany"),
            ("sort a list in python", "sort a list in ruby"),
            ("opening hours on monday", "opening hours on friday"),
            ("how many seconds are left", "how many minutes are left"),
            ("日语怎么说", "英语怎么说"),
        ],
    );
    all(
        Err(Mismatch::Quote),
        &[
            ("who wrote \"war and peace\"", "who wrote \"crime and punishment\""),
            ("求《三体》全集", "求《流浪地球》全集"),
        ],
    );
    all(
        Err(Mismatch::Code),
        &[
            ("what does read_line do", "what does read_until do"),
            ("open https://example.org/a", "open https://example.org/b"),
            ("explain `malloc`", "explain `calloc`"),
        ],
    );
}

#[test]
fn questions_and_languages() {
    all(
        Err(Mismatch::Question),
        &[("why did the war end", "when did the war end"), ("他什么时候来", "他为什么来")],
    );
    all(
        Err(Mismatch::Language),
        &[
            ("what is the capital", "首都是哪里"),
            ("what is the weather in Rome", "cuál es el clima en Rome"),
            ("привет мир", "hello world"),
        ],
    );
}

#[test]
fn paraphrases_pass() {
    all(
        Ok(()),
        &[
            ("How can I flirt with a guy online?", "How do I flirt with a guy online?"),
            ("What is the best way to learn Rust?", "What's the best method for learning rust?"),
            ("I can't log in", "I cannot log in"),
            ("best business to start in Nagpur", "Which is the best business to start in nagpur?"),
            ("Is the US bigger than it was", "Is the U.S. bigger than it was"),
            ("masters in Computer Science", "masters in CS"),
            ("differences between Java and Go", "difference between Go and Java"),
            ("网上怎么激活平安银行卡", "怎么在网上激活平安银行卡啊"),
            ("有没有免费的网站", "有哪些免费的网站"),
            ("is tea or coffee better", "is coffee or tea better"),
            ("天天动听好还是酷狗好", "酷狗好还是天天动听好"),
            ("how do these words differ", "how do these two words differ"),
            ("why is Hillary Clinton famous", "why is Hilary Clinton famous"),
            ("手机流量经常不够用怎么办", "手机流量总不够用怎么办"),
            (
                "Will the Browns really go 0-16 in the coming NFL season?",
                "Do you believe the Cleveland Browns could finish 0-16?",
            ),
            ("ｗｈａｔ　ｉｓ　ｉｔ", "what is it"),
        ],
    );
}

#[test]
fn a_prompt_too_long_to_read_matches_only_itself() {
    let long = "word ".repeat(super::WORDS_MAX + 1);
    let other = format!("{long} more");
    assert_eq!(judge(&long, &other), Err(Mismatch::Length));
    assert_eq!(judge(&long, &long), Ok(()));
    assert!(Features::of(&long).memory_bytes() <= 64 + super::WORDS_MAX * 8);
}

proptest! {
    #[test]
    fn any_text_agrees_with_itself_and_comparing_is_symmetric(a in "\\PC{0,80}", b in "\\PC{0,80}") {
        let (one, other) = (Features::of(&a), Features::of(&b));
        prop_assert_eq!(compare(&one, &one), Ok(()));
        prop_assert_eq!(compare(&one, &other).is_ok(), compare(&other, &one).is_ok());
    }

    #[test]
    fn another_number_in_the_same_sentence_never_passes(
        before in "[a-z]{1,8}( [a-z]{1,8}){0,4}",
        after in "[a-z]{4,8}( [a-z]{4,8}){0,4}",
        (one, other) in (1_u32..100_000, 1_u32..100_000),
    ) {
        prop_assume!(one != other);
        let text = |number: u32| format!("{before} {number} {after}");
        prop_assert_eq!(judge(&text(one), &text(other)), Err(Mismatch::Number));
    }

    #[test]
    fn case_and_blanks_at_the_ends_say_nothing(text in "[a-z]{2,8}( [a-z]{2,8}){1,6}") {
        let shouted = format!("  {}  ", text.to_uppercase());
        prop_assert_eq!(judge(&text, &shouted), Ok(()));
    }
}
